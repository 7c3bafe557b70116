// int(), float() and round() as Python has them.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_ops.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

// Drops the underscores that Python allows between digits; nullopt where one stands elsewhere.
std::optional<std::string> WithoutUnderscores(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const auto is_digit = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
    if (i == 0 || i + 1 >= text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

std::optional<int64_t> ParseInteger(std::string_view text, int base) {
  text = StripRight(StripLeft(text));
  bool negative = false;
  if (text.starts_with('-') || text.starts_with('+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.size() > 2 && text[0] == '0') {
    const char kind = static_cast<char>(text[1] | 0x20);
    const int prefix_base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (prefix_base != 0 && (base == prefix_base || base == 0)) {
      text.remove_prefix(2);
      if (text.starts_with('_')) text.remove_prefix(1);
      base = prefix_base;
    }
  }
  const bool plain_zero = text.find_first_not_of("0_") == text.npos;
  if (base == 0) {
    if (text.size() > 1 && text[0] == '0' && !plain_zero) return std::nullopt;
    base = 10;
  }
  if (base < 2 || base > 36) Throw(ErrorKind::kValue, "int() base must be >= 2 and <= 36, or 0");
  const std::optional<std::string> digits = WithoutUnderscores(text);
  if (!digits || digits->empty()) return std::nullopt;
  uint64_t magnitude = 0;
  const char* end = digits->data() + digits->size();
  const auto parsed = std::from_chars(digits->data(), end, magnitude, base);
  if (parsed.ptr != end) return std::nullopt;
  const uint64_t limit = static_cast<uint64_t>(INT64_MAX) + (negative ? 1 : 0);
  if (parsed.ec != std::errc() || magnitude > limit) {
    Throw(ErrorKind::kOverflow, "the integer does not fit in 64 bits");
  }
  return static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
}

std::optional<double> ParseFloat(std::string_view text) {
  text = StripRight(StripLeft(text));
  const std::optional<std::string> plain = WithoutUnderscores(text);
  if (!plain || plain->empty()) return std::nullopt;
  std::string lower = ToLower(*plain);
  const std::string_view unsigned_part =
      lower[0] == '-' || lower[0] == '+' ? std::string_view(lower).substr(1) : lower;
  const double sign = lower[0] == '-' ? -1.0 : 1.0;
  if (unsigned_part == "inf" || unsigned_part == "infinity") return sign * HUGE_VAL;
  if (unsigned_part == "nan") return std::nan("");
  if (unsigned_part.empty() || unsigned_part.find_first_not_of("0123456789.e+-") !=
                                   unsigned_part.npos) {
    return std::nullopt;
  }
  char* end = nullptr;
  const std::string number(unsigned_part);
  if (number[0] == '-' || number[0] == '+') return std::nullopt;
  const double value = std::strtod(number.c_str(), &end);
  if (end != number.c_str() + number.size()) return std::nullopt;
  return sign * value;
}

double RoundFloat(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 350) return value;
  if (digits < -350) return std::copysign(0.0, value);
  if (digits >= 0) {  // printf rounds the exact binary value, half to even, as Python does
    char buffer[800];
    std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(digits), value);
    return std::strtod(buffer, nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / scale) * scale;
}

int64_t TruncateFloat(double value) {
  if (std::isnan(value)) Throw(ErrorKind::kValue, "cannot convert float NaN to integer");
  if (std::isinf(value)) Throw(ErrorKind::kOverflow, "cannot convert float infinity to integer");
  if (std::fabs(value) >= 9223372036854775808.0) {
    Throw(ErrorKind::kOverflow, "the float does not fit in a 64-bit integer");
  }
  return static_cast<int64_t>(value);
}

}  // namespace baton::tokenizer::jinja
