#include "router/stream_record.h"

#include <charconv>
#include <utility>

#include "common/json.h"
#include "router/json_scan.h"

namespace baton::router {
namespace {

// The word before the next space; both are taken off `text`.
std::string_view NextWord(std::string_view& text) {
  const size_t space = text.find(' ');
  const std::string_view word = text.substr(0, space);
  text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  return word;
}

template <typename T>
bool ParseNumber(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out >= 0;
}

bool IsJsonString(std::string_view text) {
  if (text.size() < 2 || text.front() != '"') return false;
  const auto parsed = json::Parse(text);
  return parsed.ok() && parsed->is_string();
}

// Length of the line break that `text` begins with, or 0.
size_t BlankLine(std::string_view text) {
  if (text.starts_with('\n')) return 1;
  return text.starts_with("\r\n") ? 2 : 0;
}

// Where the first event of `events` ends (behind its blank line).
size_t EventEnd(std::string_view events) {
  if (const size_t blank = BlankLine(events)) return blank;
  size_t at = 0;
  while ((at = events.find('\n', at)) != std::string_view::npos) {
    ++at;
    if (const size_t blank = BlankLine(events.substr(at))) return at + blank;
  }
  return events.size();
}

}  // namespace

StreamRecord::Choice* StreamRecord::ChoiceAt(std::string_view& text) {
  size_t index = 0;
  if (!ParseNumber(NextWord(text), index) || index >= choices_.size()) return nullptr;
  return &choices_[index];
}

bool StreamRecord::TakeComment(std::string_view line) {
  const std::string_view kind = NextWord(line);
  if (kind == "last") return last_seen_ = true;
  Choice* const choice = ChoiceAt(line);
  if (!choice) return false;
  if (kind == "end") return choice->ended = true;
  if (kind == "id") {
    const std::string_view created = NextWord(line);
    int64_t number = 0;
    if (!ParseNumber(created, number) || !IsJsonString(line)) return false;
    if (number > 0) created_ = fmt::format("{}", number);
    choice->id = line;
    return true;
  }
  if (kind != "ids") return false;
  choice->opened = true;
  while (!line.empty()) {
    const size_t comma = line.find(',');
    int32_t id = 0;
    if (!ParseNumber(line.substr(0, comma), id)) return false;
    if (++count_ > kMaxIds) return true;
    choice->ids.push_back(id);
    if (comma == std::string_view::npos) break;
    line.remove_prefix(comma + 1);
  }
  return true;
}

std::string_view StreamRecord::Take(std::string_view& events) {
  if (!with_comments_) return std::exchange(events, {});
  out_.clear();
  while (!events.empty()) {
    bool announced = false;
    std::string_view rest = events;
    while (rest.starts_with(": ")) {
      const size_t line_end = rest.find('\n');
      if (line_end == std::string_view::npos) break;
      std::string_view line = rest.substr(2, line_end - 2);
      if (line.ends_with('\r')) line.remove_suffix(1);
      intact_ = TakeComment(line) && intact_;
      announced = true;
      rest.remove_prefix(line_end + 1);
    }
    if (const size_t blank = BlankLine(rest); announced && blank) {  // comments alone
      events = rest.substr(blank);
      continue;
    }
    if (!announced && !rest.starts_with("data: [DONE]")) break;
    const size_t end = EventEnd(rest);
    out_.append(rest.substr(0, end));
    events = rest.substr(end);
  }
  return out_;
}

std::string_view StreamRecord::Skip(std::string_view& events) {
  const std::string_view event = events.substr(0, EventEnd(events));
  events.remove_prefix(event.size());
  return event;
}

std::string StreamRecord::ResumeMember(int migrations) const {
  std::string out = fmt::format("\"baton_resume\":{{\"migrations\":{}", migrations);
  if (!created_.empty()) out += fmt::format(",\"created\":{}", created_);
  if (!choices_.empty() && !choices_[0].id.empty()) out += fmt::format(",\"id\":{}", choices_[0].id);
  out += ",\"choices\":[";
  for (const Choice& choice : choices_) {
    out += fmt::format("{{\"opened\":{},\"ended\":{}", choice.opened, choice.ended);
    if (!choice.id.empty()) out += fmt::format(",\"id\":{}", choice.id);
    out += ",\"ids\":[";
    for (const int32_t id : choice.ids) {
      out += fmt::format_int(id).c_str();
      out += ',';
    }
    if (!choice.ids.empty()) out.pop_back();
    out += "]},";
  }
  if (!choices_.empty()) out.pop_back();
  return out += "]}";
}

}  // namespace baton::router
