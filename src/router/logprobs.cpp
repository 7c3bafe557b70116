#include "router/logprobs.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "http/sse.h"
#include "router/json_scan.h"

namespace baton::router {
namespace {

constexpr std::array<std::string_view, 3> kNames = {
    "input_token_logprobs", "input_top_logprobs", "input_token_ids_logprobs"};

struct Span {
  size_t begin = 0;
  size_t end = 0;
  JsonKind kind = JsonKind::kNull;
};

// Where an answer has its meta_info and the lists in it; offsets into the answer.
struct Layout {
  std::optional<Span> meta;
  std::array<std::optional<Span>, 3> lists;
  std::optional<int64_t> index;
};

std::optional<Layout> LayoutOf(std::string_view answer) {
  Layout layout;
  const Status outer = ScanObject(answer, [&](const JsonMember& m) {
    if (m.KeyIs("meta_info") && m.kind == JsonKind::kObject) layout.meta = Span{m.begin, m.end, m.kind};
    if (m.KeyIs("index")) layout.index = JsonInteger(answer.substr(m.begin, m.end - m.begin));
  });
  if (!outer.ok() || !layout.meta) return std::nullopt;
  const size_t base = layout.meta->begin;
  const Status inner =
      ScanObject(answer.substr(base, layout.meta->end - base), [&](const JsonMember& m) {
        for (size_t i = 0; i < kNames.size(); ++i) {
          if (m.KeyIs(kNames[i])) layout.lists[i] = Span{base + m.begin, base + m.end, m.kind};
        }
      });
  if (!inner.ok()) return std::nullopt;
  return layout;
}

// The inside of a list literal, "" when it holds nothing.
std::string_view Inside(std::string_view list) {
  list = list.substr(1, list.size() - 2);
  return SkipJsonSpace(list) == list.size() ? std::string_view() : list;
}

std::string Joined(std::string_view first, std::string_view second) {
  return fmt::format("[{}{}{}]", first, !first.empty() && !second.empty() ? "," : "", second);
}

}  // namespace

void InputLogprobs::Take(std::string_view answer, int64_t index) {
  const auto layout = LayoutOf(answer);
  if (!layout) return;
  Sample& sample = samples_[layout->index.value_or(index)];
  for (size_t i = 0; i < kLists; ++i) {
    if (!layout->lists[i] || layout->lists[i]->kind != JsonKind::kArray) continue;
    const Span& span = *layout->lists[i];
    const std::string_view items = Inside(answer.substr(span.begin, span.end - span.begin));
    // Events repeat what was said before: the longest is the whole.
    if (items.size() > sample.items[i].size()) sample.items[i] = items;
  }
}

Result<InputLogprobs> InputLogprobs::Read(std::string_view body, bool event_stream) {
  InputLogprobs out;
  if (event_stream) {
    http::SseParser parser;
    parser.Feed(body);
    while (auto payload = parser.Next()) out.Take(*payload, 0);
    if (parser.failed()) return Error(Code::kDataCorrupt, "prefill's event stream is broken");
    return out;
  }
  const size_t first = SkipJsonSpace(body);
  if (first < body.size() && body[first] == '{') {
    out.Take(body, 0);
    return out;
  }
  int64_t index = 0;
  const Status scanned = ScanArray(body, [&](const JsonElement& e) {
    out.Take(body.substr(e.begin, e.end - e.begin), index++);
  });
  if (!scanned.ok()) {
    return Error(Code::kDataCorrupt, "prefill's answer is neither an object nor a list: {}",
                 scanned.message());
  }
  return out;
}

bool InputLogprobs::Merge(std::string_view answer, const Sample& sample, bool add_missing,
                          std::string* out) const {
  const auto layout = LayoutOf(answer);
  if (!layout) return false;
  struct Edit {
    size_t begin, end;
    std::string text;
  };
  std::vector<Edit> edits;
  std::string added;
  for (size_t i = 0; i < kLists; ++i) {
    const std::string& items = sample.items[i];
    const auto& span = layout->lists[i];
    if (span && span->kind == JsonKind::kArray) {
      const std::string_view own = Inside(answer.substr(span->begin, span->end - span->begin));
      if (!items.empty()) edits.push_back({span->begin, span->end, Joined(items, own)});
    } else if (!items.empty() && add_missing) {
      if (span) edits.push_back({span->begin, span->end, Joined(items, {})});  // was null
      else added += fmt::format("\"{}\":{},", kNames[i], Joined(items, {}));
    }
  }
  if (!added.empty()) {
    const size_t after_brace = layout->meta->begin + 1;
    const bool empty = answer[SkipJsonSpace(answer, after_brace)] == '}';
    if (empty) added.pop_back();
    edits.push_back({after_brace, after_brace, std::move(added)});
  }
  std::sort(edits.begin(), edits.end(), [](const Edit& a, const Edit& b) { return a.begin < b.begin; });
  size_t at = 0;
  for (const Edit& edit : edits) {
    out->append(answer.substr(at, edit.begin - at));
    *out += edit.text;
    at = edit.end;
  }
  out->append(answer.substr(at));
  return true;
}

Result<std::string> InputLogprobs::MergeBody(std::string_view body) const {
  static const Sample kNothing;
  const auto sample_of = [&](int64_t i) -> const Sample& {
    const auto found = samples_.find(i);
    return found == samples_.end() ? kNothing : found->second;
  };
  std::string out;
  const size_t first = SkipJsonSpace(body);
  if (first < body.size() && body[first] == '{') {
    if (!Merge(body, sample_of(0), true, &out)) {
      return Error(Code::kDataCorrupt, "decode's answer has no meta_info");
    }
    return out;
  }
  int64_t index = 0;
  size_t at = 0;
  const Status scanned = ScanArray(body, [&](const JsonElement& e) {
    out.append(body.substr(at, e.begin - at));
    const std::string_view answer = body.substr(e.begin, e.end - e.begin);
    if (!Merge(answer, sample_of(index), true, &out)) out.append(answer);
    ++index;
    at = e.end;
  });
  if (!scanned.ok()) {
    return Error(Code::kDataCorrupt, "decode's answer is neither an object nor a list: {}",
                 scanned.message());
  }
  out.append(body.substr(at));
  return out;
}

std::string InputLogprobs::MergeEvent(std::string_view payload) {
  int64_t index = 0;
  bool answer = false;
  const Status scanned = ScanObject(payload, [&](const JsonMember& m) {
    if (m.KeyIs("index")) index = JsonInteger(payload.substr(m.begin, m.end - m.begin)).value_or(0);
    answer |= m.KeyIs("meta_info");
  });
  const auto found = samples_.find(index);
  if (!scanned.ok() || !answer || found == samples_.end()) return std::string(payload);
  Sample& sample = found->second;
  std::string out;
  if (!Merge(payload, sample, !sample.merged, &out)) return std::string(payload);
  sample.merged = true;
  return out;
}

}  // namespace baton::router
