#include "tokenizer/byte_alphabet.h"

#include <array>

#include "tokenizer/utf8.h"

namespace baton::tokenizer {
namespace {

constexpr int kAlphabetEnd = 0x144;  // 256 + the 68 bytes that are not printable Latin-1

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Tables {
  std::array<char32_t, 256> point{};
  std::array<int16_t, kAlphabetEnd> byte{};  // -1: not of the alphabet

  constexpr Tables() {
    for (auto& b : byte) b = -1;
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      point[b] = StandsForItself(b) ? static_cast<char32_t>(b) : next++;
      byte[point[b]] = static_cast<int16_t>(b);
    }
  }
};
constexpr Tables kTables;

}  // namespace

char32_t ByteToAlphabet(uint8_t byte) { return kTables.point[byte]; }

std::string ToAlphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) AppendUtf8(kTables.point[static_cast<uint8_t>(c)], out);
  return out;
}

std::optional<std::string> FromAlphabet(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<uint8_t>(text[i]);
    char32_t point = lead;
    if (lead >= 0x80) {  // the alphabet has no character of more than two bytes
      if (lead < 0xC2 || lead > 0xC5 || i + 1 == text.size()) return std::nullopt;
      const auto tail = static_cast<uint8_t>(text[++i]);
      if ((tail & 0xC0) != 0x80) return std::nullopt;
      point = (lead & 0x1Fu) << 6 | (tail & 0x3Fu);
    }
    if (point >= kAlphabetEnd || kTables.byte[point] < 0) return std::nullopt;
    out += static_cast<char>(kTables.byte[point]);
  }
  return out;
}

}  // namespace baton::tokenizer
