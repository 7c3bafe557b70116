#include "router/bootstrap.h"

#include <algorithm>
#include <random>
#include <unordered_set>

#include "common/json.h"
#include "router/dp_rank.h"
#include "router/json_scan.h"

namespace baton::router {
namespace {

// How many '[' open at the start of a value: [[1]] is 2.
int ListDepth(std::string_view value) {
  int depth = 0;
  for (size_t at = SkipJsonSpace(value); at < value.size() && value[at] == '['; ++depth) {
    at = SkipJsonSpace(value, at + 1);
  }
  return depth;
}

size_t CountElements(std::string_view array) {
  size_t count = 0;
  const Status scanned = ScanArray(array, [&](const JsonElement&) { ++count; });
  return scanned.ok() ? count : 0;
}

// `n` of a sampling_params object, at least 1.
int64_t SamplesOf(std::string_view params) {
  int64_t n = 1;
  const Status scanned = ScanObject(params, [&](const JsonMember& m) {
    if (m.KeyIs("n")) n = JsonInteger(params.substr(m.begin, m.end - m.begin)).value_or(1);
  });
  return scanned.ok() ? std::max<int64_t>(n, 1) : 1;
}

int64_t SamplesOfList(std::string_view list) {
  int64_t n = 1;
  const Status scanned = ScanArray(list, [&](const JsonElement& e) {
    if (e.kind == JsonKind::kObject) n = std::max(n, SamplesOf(list.substr(e.begin, e.end - e.begin)));
  });
  return scanned.ok() ? n : 1;
}

bool AnyTrue(std::string_view list) {
  bool any = false;
  const Status scanned = ScanArray(list, [&](const JsonElement& e) { any |= e.kind == JsonKind::kTrue; });
  return scanned.ok() && any;
}

// Collects the members that matter; of repeated keys the last one counts, as in most parsers.
class Inspector {
 public:
  Inspector(Api api, std::string_view body, bool cut_ranks)
      : api_(api), body_(body), cut_ranks_(cut_ranks) {}

  void Take(const JsonMember& m) {
    const std::string_view value = body_.substr(m.begin, m.end - m.begin);
    any_member_ = true;
    if (m.KeyIs("bootstrap_host") || m.KeyIs("bootstrap_port") || m.KeyIs("bootstrap_room")) {
      facts_.cuts.push_back({m.separator, m.end});
    } else if (cut_ranks_ && NamesRank(m)) {
      facts_.cuts.push_back({m.separator, m.end});
    } else if (m.KeyIs("baton_resume")) {
      facts_.resumes = true;
    } else if (m.KeyIs("stream")) {
      facts_.stream = m.kind == JsonKind::kTrue;
    } else if (m.KeyIs("model")) {
      facts_.model = m.kind == JsonKind::kString ? JsonString(value) : std::string();
    } else if (api_ == Api::kChat && m.KeyIs("messages")) {
      facts_.prompt = {m.begin, m.end};
    } else if (api_ == Api::kChat && m.KeyIs("tools")) {
      facts_.tools = {m.begin, m.end};
    } else if (api_ == Api::kGenerate) {
      TakeGenerate(m, value);
    } else if (m.KeyIs("n")) {
      n_ = std::max<int64_t>(JsonInteger(value).value_or(1), 1);
    } else if (api_ == Api::kCompletions && m.KeyIs("prompt")) {
      prompt_ = value;
      facts_.prompt = {m.begin, m.end};
    }
  }

  Result<BodyFacts> Finish() {
    size_t items = 0;  // 0: not a batch
    if (ListDepth(text_) >= 1) items = CountElements(text_);
    if (ListDepth(input_ids_) >= 2) items = CountElements(input_ids_);
    if (ListDepth(input_embeds_) >= 3) items = CountElements(input_embeds_);
    if (ListDepth(prompt_) >= 2 || IsStringList(prompt_)) items = CountElements(prompt_);
    const size_t n = static_cast<size_t>(n_);
    facts_.batch = items > 0 || n > 1;
    if (n > kMaxSamples || std::max<size_t>(items, 1) * n > kMaxSamples) {
      return Error(Code::kInvalidArgument, "{} prompts with n={} are more than {} samples; split the request",
                   std::max<size_t>(items, 1), n, kMaxSamples);
    }
    facts_.samples = std::max<size_t>(items, 1) * n;
    facts_.after_brace = SkipJsonSpace(body_) + 1;
    // Cutting the first member leaves what follows with its own comma (or with the end).
    const bool first_is_cut = !facts_.cuts.empty() && facts_.cuts[0].begin == facts_.after_brace;
    facts_.needs_comma = any_member_ && !first_is_cut;
    return std::move(facts_);
  }

 private:
  static bool NamesRank(const JsonMember& m) {
    return std::any_of(kRankMembers.begin(), kRankMembers.end(), [&](std::string_view name) { return m.KeyIs(name); });
  }

  void TakeGenerate(const JsonMember& m, std::string_view value) {
    if (m.KeyIs("text")) {
      text_ = value;
      facts_.prompt = {m.begin, m.end};
    } else if (m.KeyIs("input_ids")) {
      input_ids_ = value;
      facts_.prompt = {m.begin, m.end};
    } else if (m.KeyIs("input_embeds")) {
      input_embeds_ = value;
    } else if (m.KeyIs("sampling_params")) {
      n_ = 1;
      if (m.kind == JsonKind::kObject) n_ = SamplesOf(value);
      if (m.kind == JsonKind::kArray) n_ = SamplesOfList(value);
    } else if (m.KeyIs("return_logprob")) {
      facts_.return_logprob =
          m.kind == JsonKind::kTrue || (m.kind == JsonKind::kArray && AnyTrue(value));
    }
  }

  static bool IsStringList(std::string_view value) {
    if (ListDepth(value) != 1) return false;
    const size_t first = SkipJsonSpace(value, SkipJsonSpace(value) + 1);
    return value[first] == '"';
  }

  const Api api_;
  const std::string_view body_;
  const bool cut_ranks_;
  BodyFacts facts_;
  bool any_member_ = false;
  int64_t n_ = 1;
  std::string_view text_, input_ids_, input_embeds_, prompt_;
};

template <typename AppendOne>
void AppendField(std::string& out, std::string_view name, bool batch, size_t count,
                 const AppendOne& append_one) {
  out += '"';
  out += name;
  out += batch ? "\":[" : "\":";
  for (size_t i = 0; i < (batch ? count : 1); ++i) {
    if (i) out += ',';
    append_one(i);
  }
  if (batch) out += ']';
}

}  // namespace

std::string_view PathOf(Api api) {
  switch (api) {
    case Api::kGenerate: return "/generate";
    case Api::kChat: return "/v1/chat/completions";
    case Api::kCompletions: return "/v1/completions";
    case Api::kRerank: return "/v1/rerank";
  }
  return "";
}

Result<BodyFacts> InspectBody(Api api, std::string_view body, bool cut_ranks) {
  Inspector inspector(api, body, cut_ranks);
  const Status scanned = ScanObject(body, [&](const JsonMember& m) { inspector.Take(m); });
  if (!scanned.ok()) return scanned.Prefixed("request body");
  return inspector.Finish();
}

std::vector<int64_t> DrawRooms(size_t count, int64_t modulus, int64_t rest) {
  thread_local std::mt19937_64 random = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  std::uniform_int_distribution<int64_t> multiple(1, (INT64_MAX - rest) / modulus);
  const auto draw = [&](std::mt19937_64& from) { return multiple(from) * modulus + rest; };
  std::vector<int64_t> rooms;
  rooms.reserve(count);
  if (count == 1) {
    rooms.push_back(draw(random));
    return rooms;
  }
  std::unordered_set<int64_t> seen;
  while (rooms.size() < count) {
    const int64_t room = draw(random);
    if (seen.insert(room).second) rooms.push_back(room);
  }
  return rooms;
}

SplicedBody InjectMembers(std::string_view body, const BodyFacts& facts, std::string_view members) {
  SplicedBody out;
  if (members.empty()) return out;
  const size_t copied = facts.cuts.empty() ? facts.after_brace : body.size();
  out.front.reserve(copied + members.size() + 1);
  out.front.append(body.substr(0, facts.after_brace));
  out.front.append(members);
  if (facts.needs_comma) out.front += ',';
  out.rest = facts.after_brace;
  if (facts.cuts.empty()) return out;
  for (const BodyFacts::Span& cut : facts.cuts) {
    out.front.append(body.substr(out.rest, cut.begin - out.rest));
    out.rest = cut.end;
  }
  out.front.append(body.substr(out.rest));
  out.rest = body.size();
  return out;
}

SplicedBody InjectBootstrap(std::string_view body, const BodyFacts& facts,
                            const Bootstrap& bootstrap, std::string_view members) {
  const std::string host = json::serialize(json::value(bootstrap.host));
  const std::string port = bootstrap.port ? fmt::format("{}", *bootstrap.port) : "null";
  const size_t count = bootstrap.rooms.size();
  std::string all;
  all.reserve(members.size() + 80 + count * (host.size() + port.size() + 24));
  AppendField(all, "bootstrap_host", facts.batch, count, [&](size_t) { all += host; });
  all += ',';
  AppendField(all, "bootstrap_port", facts.batch, count, [&](size_t) { all += port; });
  all += ',';
  AppendField(all, "bootstrap_room", facts.batch, count,
              [&](size_t i) { all += fmt::format_int(bootstrap.rooms[i]).c_str(); });
  if (!members.empty()) {
    all += ',';
    all.append(members);
  }
  return InjectMembers(body, facts, all);
}

}  // namespace baton::router
