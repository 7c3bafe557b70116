#include "router/target_worker.h"

#include <charconv>

namespace baton::router {
namespace {

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<size_t> Index(std::string_view text) {
  text = Trim(text);
  size_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return index;
}

}  // namespace

Result<TargetWorker> ParseTargetWorker(std::string_view value) {
  value = Trim(value);
  TargetWorker target;
  if (value.empty()) return target;
  if (const auto index = Index(value)) {
    target.prefill = target.other = index;
    return target;
  }
  const size_t comma = value.find(',');
  if (comma != std::string_view::npos) {
    target.prefill = Index(value.substr(0, comma));
    target.other = Index(value.substr(comma + 1));
    if (target.prefill && target.other) return target;
  }
  if (comma != std::string_view::npos || value[0] == '-') {
    return Error(Code::kInvalidArgument,
                 "x-smg-target-worker '{}' is none of: an index from 0, PREFILL,DECODE indices, a "
                 "worker's id, a worker's URL",
                 value);
  }
  target.name = value;
  return target;
}

}  // namespace baton::router
