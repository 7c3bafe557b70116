// What is asked: conversations of one or more turns, each turn a prompt and a wanted answer length.
//
// A workload is a pure function of (index, seed): nothing is stored per request, so a trace of
// thousands of 40k-token prompts costs its ids only. Text is made when a request is about to be
// sent (text.h). Immutable; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/serving/lengths.h"
#include "bench/serving/text.h"

namespace baton::bench::serving {

// A run of generated text. Equal seeds and lengths make equal text.
struct Segment {
  uint64_t seed = 0;
  int tokens = 0;
};

struct TurnPlan {
  std::vector<Segment> segments;
  std::string literal;  // used instead of the segments when not empty
  int output_tokens = 1;
};

struct ConversationPlan {
  std::vector<TurnPlan> turns;
};

enum class DatasetKind : uint8_t { kRandom, kSharedPrefix, kShareGpt, kMooncake };
Result<DatasetKind> ParseDatasetKind(std::string_view text);
std::string_view DatasetKindName(DatasetKind kind);

struct WorkloadOptions {
  DatasetKind kind = DatasetKind::kRandom;
  std::string path;  // of kShareGpt and kMooncake
  LengthDistribution input = LengthDistribution::Fixed(512);
  LengthDistribution output = LengthDistribution::Fixed(128);
  bool output_given = false;  // overrides the lengths that a file holds
  int turns = 1;              // of a conversation, at most
  int prefix_groups = 8, prompts_per_group = 16, prefix_tokens = 1024;  // of kSharedPrefix
  int block_tokens = 512;                                               // of kMooncake, per hash id
  double length_scale = 1;   // of kMooncake: multiplies lengths and block size
  int max_input_tokens = 0;  // 0: no limit; longer prompts of files are cut (kMooncake) or left out
  int max_output_tokens = 0;  // 0: no limit
  uint64_t seed = 0;          // of what all points of a sweep share: the order of a file
  uint64_t wanted = 0;  // of kShareGpt: so many conversations are read, if there are; 0: 100,000
};

class Workload {
 public:
  // Reads the file if there is one. `text` counts tokens of ShareGPT answers; it must outlive the
  // workload. kDataCorrupt and kNotFound name the file.
  static Result<Workload> Make(const WorkloadOptions& options, const TextMaker& text);

  // `seed` tells the points of a sweep apart, so that none finds the prompts of another in a cache.
  ConversationPlan Get(uint64_t index, uint64_t seed) const {
    return get_(index % PeriodOrAll(), seed, index);
  }
  // Distinct conversations; 0: as many as wanted. After them the file begins anew.
  uint64_t size() const { return size_; }
  // Recorded times, seconds since the start, or nullopt.
  bool has_times() const { return static_cast<bool>(time_); }
  // Of any index: later rounds follow the first.
  double TimeOf(uint64_t index) const { return time_(index); }

 private:
  friend class WorkloadBuilder;
  uint64_t PeriodOrAll() const { return size_ ? size_ : UINT64_MAX; }

  std::function<ConversationPlan(uint64_t at, uint64_t seed, uint64_t index)> get_;
  std::function<double(uint64_t)> time_;
  uint64_t size_ = 0;
};

// The text of a turn.
std::string TextOf(const TurnPlan& turn, const TextMaker& maker);

}  // namespace baton::bench::serving
