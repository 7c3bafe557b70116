#include "router/conversation.h"

#include <cstring>

#include <boost/container/small_vector.hpp>

#include "router/json_scan.h"

namespace baton::router {
namespace {

// Walks JSON that ScanObject has found valid; on anything else it stops early, never past the end.
class Walker {
 public:
  explicit Walker(std::string_view text) : text_(text) {}

  char Peek() {
    at_ = SkipJsonSpace(text_, at_);
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool Take(char wanted) {
    if (Peek() != wanted) return false;
    ++at_;
    return true;
  }
  bool AtEnd() const { return at_ >= text_.size(); }

  // The next value as it is written.
  std::string_view Value() {
    const char first = Peek();
    const size_t begin = at_;
    if (first == '"') {
      SkipString();
    } else if (first == '{' || first == '[') {
      SkipNested();
    } else {
      while (at_ < text_.size() && !std::strchr(",]} \t\r\n", text_[at_])) ++at_;
    }
    return text_.substr(begin, at_ - begin);
  }

 private:
  void SkipString() {
    const size_t begin = at_++;
    while (at_ < text_.size()) {
      const void* found = std::memchr(text_.data() + at_, '"', text_.size() - at_);
      if (!found) break;
      const auto quote = static_cast<size_t>(static_cast<const char*>(found) - text_.data());
      size_t slashes = 0;
      while (quote - slashes > begin + 1 && text_[quote - slashes - 1] == '\\') ++slashes;
      at_ = quote + 1;
      if (slashes % 2 == 0) return;
    }
    at_ = text_.size();
  }
  void SkipNested() {
    size_t depth = 0;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        SkipString();
        continue;
      }
      ++at_;
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && --depth == 0) return;
    }
  }

  const std::string_view text_;
  size_t at_ = 0;
};

std::string_view Unquoted(std::string_view value) {
  const bool quoted = value.size() >= 2 && value.front() == '"' && value.back() == '"';
  return quoted ? value.substr(1, value.size() - 2) : value;
}

// Control characters cannot be in a JSON string, so these marks cannot be made by a client.
constexpr char kMessageMark = '\x01';
constexpr char kPartMark = '\x02';

void FeedMessage(Walker& walker, PrefixDigestBuilder& builder) {
  std::string_view role, content;
  boost::container::small_vector<std::pair<std::string_view, std::string_view>, 8> others;
  while (!walker.AtEnd() && walker.Peek() == '"') {
    const std::string_view key = Unquoted(walker.Value());
    if (!walker.Take(':')) break;
    const std::string_view value = walker.Value();
    if (key == "role") role = Unquoted(value);
    else if (key == "content") content = Unquoted(value);
    else others.emplace_back(key, value);
    if (!walker.Take(',')) break;
  }
  walker.Take('}');
  builder.Feed(kMessageMark);
  builder.Feed(role);
  builder.Feed(kPartMark);
  builder.Feed(content);
  for (const auto& [key, value] : others) {
    builder.Feed(kPartMark);
    builder.Feed(key);
    builder.Feed(value);
  }
}

void FeedChat(std::string_view messages, PrefixDigestBuilder& builder) {
  Walker walker(messages);
  if (!walker.Take('[')) return builder.Feed(messages);
  while (!walker.AtEnd() && walker.Peek() != ']') {
    if (walker.Take('{')) FeedMessage(walker, builder);
    else builder.Feed(walker.Value());
    if (!walker.Take(',')) return;
  }
}

}  // namespace

PrefixDigest DigestPrompt(Api api, std::string_view body, const BodyFacts& facts) {
  const auto text = [&](const BodyFacts::Span& span) {
    return body.substr(span.begin, span.end - span.begin);
  };
  PrefixDigestBuilder builder;
  if (facts.tools.end > facts.tools.begin) builder.Feed(text(facts.tools));
  if (api == Api::kChat) FeedChat(text(facts.prompt), builder);
  // Without the quotes or the bracket at its end, a longer prompt begins with a shorter one.
  else builder.Feed(Unquoted(text(facts.prompt)));
  return builder.Finish();
}

}  // namespace baton::router
