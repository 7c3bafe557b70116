// For tests: one schedule of the simulation, by name, and the command that runs many.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace baton::transfer {

// A seed, and perhaps a node that dies at a step of it: "42" or "42:17:1". "@4" behind it: every node
// has one to four rails, which fail and come back. "@4d" or "@0d": nodes may have memory of devices,
// which goes through host memory. "@4g", "@4dg": short writes between host memories are gathered. An "m" at the
// very end: senders mark what they push.
struct Scenario {
  uint64_t seed = 0;
  int crash_step = -1, crash_node = 0;
  int rails = 0;  // most of a node; 0: a fabric without rails
  bool staged = false, gathered = false;
  bool marks = false;

  std::string ToString() const;
  static std::optional<Scenario> Parse(std::string_view text);
};

// `--simulate SECONDS` (fresh seeds for so long) or `--seed NAME` (that one again): runs it and
// gives the exit code. nullopt for any other command line.
std::optional<int> RunSimulationCommand(int argc, char** argv);

}  // namespace baton::transfer
