#include "bench/serving/workload.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bench/serving/trace.h"
#include "common/mapped_file.h"

namespace baton::bench::serving {
namespace {

constexpr uint64_t kPrefixStream = 0x5052, kBlockStream = 0x424C,
                   kOrderStream = 0x4F52;      // of DeriveSeed
constexpr size_t kMaxConversations = 100'000;  // kept of a ShareGPT file

int Limit(int tokens, int limit) {
  return std::max(1, limit > 0 ? std::min(tokens, limit) : tokens);
}

Result<std::string> ReadWhole(const std::string& path) {
  const auto file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  const auto bytes = file->bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// Generated turns: segment 0 is the unique part of the question.
TurnPlan RandomTurn(const WorkloadOptions& o, uint64_t seed, Rng& rng) {
  TurnPlan turn;
  turn.segments.push_back({seed, Limit(o.input.Draw(rng), o.max_input_tokens)});
  turn.output_tokens = Limit(o.output.Draw(rng), o.max_output_tokens);
  return turn;
}

ConversationPlan RandomConversation(const WorkloadOptions& o, uint64_t seed) {
  Rng rng(seed);
  ConversationPlan plan;
  for (int i = 0; i < o.turns; ++i) plan.turns.push_back(RandomTurn(o, rng.Next(), rng));
  return plan;
}

// Groups take turns, so that neighbours in time do not share a prefix by construction.
ConversationPlan PrefixConversation(const WorkloadOptions& o, uint64_t index, uint64_t seed) {
  ConversationPlan plan = RandomConversation(o, DeriveSeed(seed, index));
  const uint64_t group = index % static_cast<uint64_t>(o.prefix_groups);
  const Segment prefix{DeriveSeed(DeriveSeed(seed, kPrefixStream), group), o.prefix_tokens};
  plan.turns[0].segments.insert(plan.turns[0].segments.begin(), prefix);
  return plan;
}

// One segment per block, by its id; what the ids do not cover is the request's own.
ConversationPlan TraceConversation(const WorkloadOptions& o, const Trace& trace, uint64_t at,
                                   uint64_t seed, uint64_t index) {
  const TraceRequest& request = trace.requests[at];
  const auto scaled = [&](int tokens) {
    return static_cast<int>(std::llround(tokens * o.length_scale));
  };
  const int block = std::max(1, scaled(o.block_tokens));
  int left = Limit(scaled(request.input_tokens), o.max_input_tokens);
  TurnPlan turn;
  for (const uint64_t id : trace.HashesOf(request)) {
    if (left <= 0) break;
    const int tokens = std::min(block, left);
    turn.segments.push_back({DeriveSeed(DeriveSeed(seed, kBlockStream), id), tokens});
    left -= tokens;
  }
  if (left > 0) turn.segments.push_back({DeriveSeed(seed, index), left});
  Rng rng(DeriveSeed(seed, index));
  const int output = o.output_given ? o.output.Draw(rng) : scaled(request.output_tokens);
  turn.output_tokens = Limit(output, o.max_output_tokens);
  return ConversationPlan{{std::move(turn)}};
}

// Fills `plan` with the turns that fit. Text that the tokenizer refuses ends it.
void AddTurns(const WorkloadOptions& o, const TextMaker& text,
              const std::vector<Exchange>& exchanges, Rng& rng, ConversationPlan* plan) {
  for (const Exchange& exchange : exchanges) {
    if (static_cast<int>(plan->turns.size()) == o.turns) return;
    const auto question = text.Count(exchange.user), answer = text.Count(exchange.assistant);
    if (!question.ok() || !answer.ok()) return;
    if (o.max_input_tokens > 0 && *question > o.max_input_tokens) return;
    TurnPlan turn;
    turn.literal = exchange.user;
    turn.output_tokens = Limit(o.output_given ? o.output.Draw(rng) : *answer, o.max_output_tokens);
    plan->turns.push_back(std::move(turn));
  }
}

Status LoadConversations(const WorkloadOptions& o, const TextMaker& text,
                         std::vector<ConversationPlan>* out) {
  const auto file = MappedFile::Open(o.path);
  if (!file.ok()) return file.status();
  const auto bytes = file->bytes();
  const auto objects = SplitObjects({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!objects.ok()) return objects.status().Prefixed(o.path);
  std::vector<size_t> order(objects->size());
  std::iota(order.begin(), order.end(), size_t{0});
  Rng rng(DeriveSeed(o.seed, kOrderStream));
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.Below(i)]);
  // Public files hold elements that are no conversation (half of a surrogate pair, say): they are
  // passed over, and the first of them is told when nothing else is there.
  Status first_bad;
  for (const size_t at : order) {
    if (out->size() == (o.wanted ? o.wanted : kMaxConversations)) break;
    const auto exchanges = ParseConversation((*objects)[at]);
    if (!exchanges.ok()) {
      if (first_bad.ok())
        first_bad = exchanges.status().Prefixed(fmt::format("{}: element {}", o.path, at));
      continue;
    }
    ConversationPlan plan;
    AddTurns(o, text, *exchanges, rng, &plan);
    if (!plan.turns.empty()) out->push_back(std::move(plan));
  }
  if (!out->empty()) return Status::Ok();
  if (!first_bad.ok()) return first_bad;
  return Error(Code::kDataCorrupt,
               "{}: no conversation has a question and an answer of that length", o.path);
}

}  // namespace

Result<DatasetKind> ParseDatasetKind(std::string_view text) {
  if (text == "random") return DatasetKind::kRandom;
  if (text == "generated-shared-prefix" || text == "shared-prefix")
    return DatasetKind::kSharedPrefix;
  if (text == "sharegpt") return DatasetKind::kShareGpt;
  if (text == "mooncake") return DatasetKind::kMooncake;
  return Error(
      Code::kInvalidArgument,
      "--dataset-name: \"{}\" is not random, generated-shared-prefix, sharegpt or mooncake", text);
}

std::string_view DatasetKindName(DatasetKind kind) {
  switch (kind) {
    case DatasetKind::kRandom:
      return "random";
    case DatasetKind::kSharedPrefix:
      return "generated-shared-prefix";
    case DatasetKind::kShareGpt:
      return "sharegpt";
    case DatasetKind::kMooncake:
      return "mooncake";
  }
  return "?";
}

class WorkloadBuilder {
 public:
  static Workload Random(const WorkloadOptions& o) {
    Workload w;
    w.get_ = [o](uint64_t, uint64_t seed, uint64_t index) {
      return RandomConversation(o, DeriveSeed(seed, index));
    };
    return w;
  }
  static Workload SharedPrefix(const WorkloadOptions& o) {
    Workload w;
    w.get_ = [o](uint64_t, uint64_t seed, uint64_t index) {
      return PrefixConversation(o, index, seed);
    };
    w.size_ = static_cast<uint64_t>(o.prefix_groups) * static_cast<uint64_t>(o.prompts_per_group);
    return w;
  }
  static Result<Workload> ShareGpt(const WorkloadOptions& o, const TextMaker& text) {
    auto plans = std::make_shared<std::vector<ConversationPlan>>();
    if (Status s = LoadConversations(o, text, plans.get()); !s.ok()) return s;
    Workload w;
    w.size_ = plans->size();
    w.get_ = [plans](uint64_t at, uint64_t, uint64_t) { return (*plans)[at]; };
    return w;
  }
  static Result<Workload> Mooncake(const WorkloadOptions& o) {
    const auto file = ReadWhole(o.path);
    if (!file.ok()) return file.status();
    auto parsed = ParseMooncakeTrace(*file);
    if (!parsed.ok()) return parsed.status().Prefixed(o.path);
    const auto trace = std::make_shared<const Trace>(std::move(*parsed));
    Workload w;
    w.size_ = trace->requests.size();
    w.get_ = [o, trace](uint64_t at, uint64_t seed, uint64_t index) {
      return TraceConversation(o, *trace, at, seed, index);
    };
    w.time_ = [trace](uint64_t index) {
      const uint64_t rounds = index / trace->requests.size();
      return (trace->requests[index % trace->requests.size()].at_ms +
              static_cast<double>(rounds) * trace->requests.back().at_ms) /
             1e3;
    };
    return w;
  }
};

Result<Workload> Workload::Make(const WorkloadOptions& options, const TextMaker& text) {
  const bool from_file =
      options.kind == DatasetKind::kShareGpt || options.kind == DatasetKind::kMooncake;
  if (from_file && options.path.empty()) {
    return Error(Code::kInvalidArgument, "--dataset-name {} needs --dataset-path",
                 DatasetKindName(options.kind));
  }
  switch (options.kind) {
    case DatasetKind::kRandom:
      return WorkloadBuilder::Random(options);
    case DatasetKind::kSharedPrefix:
      return WorkloadBuilder::SharedPrefix(options);
    case DatasetKind::kShareGpt:
      return WorkloadBuilder::ShareGpt(options, text);
    case DatasetKind::kMooncake:
      return WorkloadBuilder::Mooncake(options);
  }
  return Error(Code::kInternal, "unknown dataset");
}

std::string TextOf(const TurnPlan& turn, const TextMaker& maker) {
  if (!turn.literal.empty()) return turn.literal;
  std::string text;
  for (const Segment& segment : turn.segments) maker.Append(segment.seed, segment.tokens, &text);
  return text;
}

}  // namespace baton::bench::serving
