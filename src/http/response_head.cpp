#include "http/response_head.h"

#include <array>
#include <charconv>
#include <ctime>

#include "common/clock.h"
#include "http/request_check.h"

namespace baton::http {

namespace {

// Date (RFC 9110 section 6.6.1) changes once a second, so each thread keeps the last one.
std::string_view DateLine() {
  thread_local std::time_t made_at = 0;
  thread_local std::array<char, 48> line;
  thread_local size_t size = 0;
  const std::time_t now = std::time(nullptr);
  if (now != made_at) {
    std::tm utc{};
    gmtime_r(&now, &utc);
    size = std::strftime(line.data(), line.size(), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &utc);
    made_at = now;
  }
  return {line.data(), size};
}

}  // namespace

bool IsFramingField(std::string_view name) {
  switch (name.size()) {
    case 10: return EqualsIgnoreCase(name, "Connection") || EqualsIgnoreCase(name, "Keep-Alive");
    case 14: return EqualsIgnoreCase(name, "Content-Length");
    case 16: return EqualsIgnoreCase(name, "Proxy-Connection");
    case 17: return EqualsIgnoreCase(name, "Transfer-Encoding");
    default: return false;
  }
}

void AppendNumber(std::string& out, uint64_t value) {
  std::array<char, 20> digits;
  const auto result = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  out.append(digits.data(), result.ptr);
}

void AppendField(std::string& out, std::string_view name, std::string_view value) {
  if (name.empty()) return;
  for (char c : name) {
    if (!IsTokenByte(c)) return;
  }
  out.append(name).append(": ");
  for (char c : value) {
    const bool control = (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
    out.push_back(control ? ' ' : c);
  }
  out.append("\r\n");
}

void AppendResponseHead(std::string& out, int status, const Headers& headers,
                        const HeadOptions& options) {
  out.append("HTTP/1.1 ");
  AppendNumber(out, static_cast<uint64_t>(status));
  out.append(" ").append(ReasonPhrase(status)).append("\r\n");
  bool has_date = false;
  for (const auto& [name, value] : headers) {
    if (IsFramingField(name)) continue;
    has_date |= EqualsIgnoreCase(name, "Date");
    AppendField(out, name, value);
  }
  if (!has_date) out.append(DateLine());
  if (options.framing == BodyFraming::kLength) {
    out.append("Content-Length: ");
    AppendNumber(out, options.length);
    out.append("\r\n");
  } else if (options.framing == BodyFraming::kChunked) {
    out.append("Transfer-Encoding: chunked\r\n");
  }
  if (options.close) out.append("Connection: close\r\n");
  out.append(options.more).append("\r\n");
}

}  // namespace baton::http
