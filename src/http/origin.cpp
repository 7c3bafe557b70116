// Parsing of "http://host:port": the part of a URL that names a connection.
#include <charconv>

#include "http/client.h"

namespace baton::http {

namespace {

bool IsHostByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '-' || c == '_';
}

Status ParsePort(std::string_view url, std::string_view text, uint16_t& port) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value == 0 || value > 65535)
    return Error(Code::kInvalidArgument, "\"{}\": port \"{}\" is not a number from 1 to 65535", url,
                 text);
  port = static_cast<uint16_t>(value);
  return Status::Ok();
}

}  // namespace

std::string Origin::ToString() const {
  const bool brackets = host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", tls ? "https" : "http", brackets ? "[" : "", host,
                     brackets ? "]" : "", port);
}

Result<Origin> ParseOrigin(std::string_view url) {
  Origin origin;
  std::string_view rest = url;
  if (const size_t scheme_end = rest.find("://"); scheme_end != std::string_view::npos) {
    const std::string_view scheme = rest.substr(0, scheme_end);
    if (EqualsIgnoreCase(scheme, "https")) {
      origin.tls = true;
      origin.port = 443;
    } else if (!EqualsIgnoreCase(scheme, "http")) {
      return Error(Code::kInvalidArgument, "\"{}\": scheme \"{}\" is not http or https", url,
                   scheme);
    }
    rest.remove_prefix(scheme_end + 3);
  }
  if (!rest.empty() && rest.back() == '/') rest.remove_suffix(1);

  std::string_view port_text;
  bool has_port = false;
  if (!rest.empty() && rest.front() == '[') {
    const size_t close = rest.find(']');
    if (close == std::string_view::npos)
      return Error(Code::kInvalidArgument, "\"{}\": '[' without ']'", url);
    origin.host = rest.substr(1, close - 1);
    for (char c : origin.host) {
      if (!IsHostByte(c) && c != ':' && c != '%')
        return Error(Code::kInvalidArgument, "\"{}\": not an IPv6 address", url);
    }
    rest.remove_prefix(close + 1);
    if (!rest.empty() && rest.front() != ':')
      return Error(Code::kInvalidArgument, "\"{}\": text after ']'", url);
    has_port = !rest.empty();
    if (has_port) port_text = rest.substr(1);
  } else {
    const size_t colon = rest.find(':');
    has_port = colon != std::string_view::npos;
    origin.host = rest.substr(0, colon);
    if (has_port) port_text = rest.substr(colon + 1);
    for (char c : origin.host) {
      if (!IsHostByte(c))
        return Error(Code::kInvalidArgument,
                     "\"{}\": expected http://host:port, without user, path or query", url);
    }
  }
  if (origin.host.empty()) return Error(Code::kInvalidArgument, "\"{}\": no host name", url);
  if (has_port) {
    if (Status status = ParsePort(url, port_text, origin.port); !status.ok()) return status;
  }
  return origin;
}

}  // namespace baton::http
