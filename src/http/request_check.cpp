#include "http/request_check.h"

#include <array>
#include <cstring>

#include <fmt/format.h>

namespace baton::http {

namespace {

enum : uint8_t { kToken = 1, kText = 2, kTarget = 4, kHost = 8 };

// Byte classes of RFC 9110 section 5.6.2 (token) and 5.5 (field values, with obs-text), of
// RFC 3986 for targets (visible ASCII without '#') and for Host.
constexpr std::array<uint8_t, 256> MakeClasses() {
  std::array<uint8_t, 256> classes{};
  for (int c = 0; c < 256; ++c) {
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    bool token = alnum;
    for (char t : std::string_view("!#$%&'*+-.^_`|~")) token |= c == t;
    bool host = alnum;
    for (char t : std::string_view("-._~%:[]!$&'()*+,;=")) host |= c == t;
    const bool text = (c >= 0x20 && c != 0x7f) || c == '\t';
    const bool target = c > 0x20 && c < 0x7f && c != '#';
    classes[static_cast<size_t>(c)] = static_cast<uint8_t>(
        (token ? kToken : 0) | (text ? kText : 0) | (target ? kTarget : 0) | (host ? kHost : 0));
  }
  return classes;
}
constexpr std::array<uint8_t, 256> kClasses = MakeClasses();

bool Is(char c, uint8_t what) { return (kClasses[static_cast<uint8_t>(c)] & what) != 0; }

bool All(std::string_view text, uint8_t what) {
  for (char c : text) {
    if (!Is(c, what)) return false;
  }
  return true;
}

const char* CheckFieldLine(std::string_view line) {
  if (line[0] == ' ' || line[0] == '\t') return "folded header line";
  size_t colon = 0;
  while (colon < line.size() && Is(line[colon], kToken)) ++colon;
  if (colon == line.size()) return "header line without a colon";
  if (line[colon] == ' ' || line[colon] == '\t') return "white space before the colon of a header";
  if (line[colon] != ':' || colon == 0) return "bad character in a header name";
  if (!All(line.substr(colon + 1), kText)) return "control character in a header value";
  return nullptr;
}

bool ParseDigits(std::string_view text, uint64_t& value) {
  if (text.empty() || text.size() > 18) return false;
  value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return true;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = static_cast<char>(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Percent-decodes; in queries '+' is a space. False for a broken escape or an escaped NUL.
bool Decode(std::string_view text, bool plus_is_space, std::string& out) {
  out.clear();
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size()) return false;
      const int high = HexDigit(text[i + 1]);
      const int low = HexDigit(text[i + 2]);
      if (high < 0 || low < 0 || high + low == 0) return false;
      out.push_back(static_cast<char>(high << 4 | low));
      i += 2;
    } else {
      out.push_back(plus_is_space && text[i] == '+' ? ' ' : text[i]);
    }
  }
  return true;
}

bool ParseQuery(std::string_view text, std::vector<std::pair<std::string, std::string>>& query) {
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    if (pair.empty()) continue;
    const size_t equals = pair.find('=');
    auto& [name, value] = query.emplace_back();
    if (!Decode(pair.substr(0, equals), true, name)) return false;
    if (equals != std::string_view::npos && !Decode(pair.substr(equals + 1), true, value))
      return false;
  }
  return true;
}

// "http://authority/path" becomes "/path", and the authority becomes Host.
const char* AbsoluteToOriginForm(Request& request, size_t scheme_bytes) {
  const std::string_view rest = std::string_view(request.target).substr(scheme_bytes);
  const size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
  const std::string_view authority = rest.substr(0, authority_end);
  if (authority.empty() || !All(authority, kHost)) return "bad authority in the request target";
  std::string target(rest.substr(authority_end));
  if (target.empty() || target[0] != '/') target.insert(0, 1, '/');
  request.headers.Set("Host", std::string(authority));
  request.target = std::move(target);
  return nullptr;
}

}  // namespace

bool IsTokenByte(char c) { return Is(c, kToken); }

HeadScan FindHeadEnd(std::string_view bytes, size_t& scanned, size_t& end) {
  while (scanned < bytes.size()) {
    const void* found = std::memchr(bytes.data() + scanned, '\n', bytes.size() - scanned);
    if (!found) {
      scanned = bytes.size();
      break;
    }
    const size_t at = static_cast<size_t>(static_cast<const char*>(found) - bytes.data());
    if (at == 0 || bytes[at - 1] != '\r') return HeadScan::kBareLineFeed;
    scanned = at + 1;
    if (at >= 3 && bytes[at - 2] == '\n') {
      end = at + 1;
      return HeadScan::kComplete;
    }
  }
  return HeadScan::kNeedMore;
}

const char* CheckHeadBytes(std::string_view head) {
  bool start_line = true;
  while (true) {
    const size_t end = head.find("\r\n");
    if (end == std::string_view::npos) return "head does not end in a blank line";
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(end + 2);
    if (start_line) {
      if (line.empty()) return "empty start line";
      if (!All(line, kText)) return "control character in the start line";
      start_line = false;
    } else if (line.empty()) {
      return head.empty() ? nullptr : "bytes after the end of the head";
    } else if (const char* wrong = CheckFieldLine(line)) {
      return wrong;
    }
  }
}

const char* CheckFraming(const Headers& headers, int version, Framing& framing) {
  for (const auto& [name, value] : headers) {
    if (EqualsIgnoreCase(name, "Content-Length")) {
      if (framing.length) return "repeated Content-Length";
      uint64_t length = 0;
      if (!ParseDigits(value, length)) return "Content-Length is not a number";
      framing.length = length;
    } else if (EqualsIgnoreCase(name, "Transfer-Encoding")) {
      if (framing.chunked) return "repeated Transfer-Encoding";
      if (!EqualsIgnoreCase(value, "chunked")) return "Transfer-Encoding other than chunked";
      framing.chunked = true;
    }
  }
  if (framing.chunked && framing.length) return "both Content-Length and Transfer-Encoding";
  if (framing.chunked && version < 11) return "Transfer-Encoding in HTTP/1.0";
  return nullptr;
}

std::optional<Rejection> CheckRequest(const Request& request, int version) {
  size_t hosts = 0;
  for (const auto& [name, value] : request.headers) {
    if (EqualsIgnoreCase(name, "Host")) {
      ++hosts;
      if (!All(value, kHost)) return Rejection{400, "bad character in Host"};
    } else if (EqualsIgnoreCase(name, "Expect") && version >= 11 &&
               !EqualsIgnoreCase(value, "100-continue")) {
      return Rejection{417, fmt::format("Expect: {} is not supported", value)};
    }
  }
  if (hosts > 1) return Rejection{400, "repeated Host"};
  if (hosts == 0 && version >= 11) return Rejection{400, "HTTP/1.1 request without Host"};
  if (request.method == "CONNECT" || request.method == "TRACE")
    return Rejection{501, fmt::format("method {} is not implemented", request.method)};
  return std::nullopt;
}

const char* ParseTarget(Request& request) {
  if (!All(request.target, kTarget)) return "bad character in the request target";
  if (request.target == "*") {
    if (request.method != "OPTIONS") return "target * is for OPTIONS only";
    request.path = "*";
    return nullptr;
  }
  for (std::string_view scheme : {"http://", "https://"}) {
    if (EqualsIgnoreCase(std::string_view(request.target).substr(0, scheme.size()), scheme)) {
      if (const char* wrong = AbsoluteToOriginForm(request, scheme.size())) return wrong;
      break;
    }
  }
  const std::string_view target = request.target;
  if (target.empty() || target[0] != '/') return "request target is not a path";
  const size_t question = target.find('?');
  if (!Decode(target.substr(0, question), false, request.path))
    return "bad percent escape in the path";
  if (question != std::string_view::npos &&
      !ParseQuery(target.substr(question + 1), request.query))
    return "bad percent escape in the query";
  return nullptr;
}

}  // namespace baton::http
