// What the router reads from a request body, and how it writes the bootstrap fields into it.
//
// The body goes to both workers byte for byte as the client sent it, with three members put in
// front: bootstrap_host, bootstrap_port, bootstrap_room (specs/sglang-pd-protocol.md 3.2). Members
// of these names that the client sent are cut out. Rooms are random in [1, 2^63): zero means "not
// written" to a decode worker. Every sample of a batch or of n > 1 has a room of its own, and a
// retry gets new ones. Pure, except that DrawRooms uses the thread's random generator.
#pragma once

#include <cstddef>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace baton::router {

enum class Api : uint8_t { kGenerate, kChat, kCompletions, kRerank };
inline constexpr size_t kApiCount = 4;
inline constexpr std::array kAllApis = {Api::kGenerate, Api::kChat, Api::kCompletions, Api::kRerank};
std::string_view PathOf(Api api);

// Bound on samples per request (prompts times n).
inline constexpr size_t kMaxSamples = 8192;

// Offsets belong to the body that was inspected.
struct BodyFacts {
  bool stream = false;
  bool return_logprob = false;  // of /generate, for any of its items
  bool batch = false;           // bootstrap fields are lists, even of one
  size_t samples = 1;
  bool resumes = false;         // the client itself sent "baton_resume"
  std::string model;            // "" when absent

  struct Span {
    size_t begin = 0;
    size_t end = 0;
  };
  size_t after_brace = 0;       // the byte after the opening '{'
  bool needs_comma = false;     // something follows the injected members
  std::vector<Span> cuts;       // bootstrap_* members of the client, ascending
  Span prompt;                  // value of messages, prompt, text or input_ids; empty: none
  Span tools;                   // value of a chat's tools
};

// kInvalidArgument: not one JSON object, or more than kMaxSamples samples. Values of a wrong type
// are not judged here: the workers say what is wrong with them.
// With `cut_ranks` the client's members that name a DP rank (dp_rank.h) are cut out as well.
Result<BodyFacts> InspectBody(Api api, std::string_view body, bool cut_ranks = false);

struct Bootstrap {
  std::string host;              // as in the prefill's URL; IPv6 keeps its brackets
  std::optional<uint16_t> port;  // absent: null, and each worker takes its own default
  std::vector<int64_t> rooms;    // one per sample
};

// `count` distinct rooms, each `rest` modulo `modulus`.
std::vector<int64_t> DrawRooms(size_t count, int64_t modulus = 1, int64_t rest = 0);

// A client's body with members in front of its own: `front`, then the client's bytes from `rest` on.
// That is all of them but the brace, unless members had to be cut out, which takes a copy.
struct SplicedBody {
  std::string front;
  size_t rest = 0;  // the body's size when `front` holds everything

  std::string Whole(std::string_view body) const { return front + std::string(body.substr(rest)); }
};

// `facts` must come from InspectBody(body). `members` ("key":value,...; may be empty) come behind the three.
SplicedBody InjectBootstrap(std::string_view body, const BodyFacts& facts,
                            const Bootstrap& bootstrap, std::string_view members = {});
// Only `members`; none: the body as it is.
SplicedBody InjectMembers(std::string_view body, const BodyFacts& facts, std::string_view members);

}  // namespace baton::router
