#include "common/printable.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include <fmt/format.h>

#include "common/json.h"

namespace baton {
namespace {

// How many bytes the character at the front of `text` has; 0 for a byte that begins none.
size_t CharacterBytes(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const size_t bytes = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  return bytes <= text.size() && json::IsValidUtf8(text.substr(0, bytes)) ? bytes : 0;
}

// C0, DEL and C1 (C2 80 to C2 9F), as a code below 0x100; nullopt for what may be shown.
std::optional<unsigned> ControlCode(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first < 0x20 || first == 0x7F ? std::optional<unsigned>(first) : std::nullopt;
  const auto second = static_cast<unsigned char>(character[1]);
  return first == 0xC2 && second < 0xA0 ? std::optional<unsigned>(second) : std::nullopt;
}

// Copies what may be shown; calls `escape` with the code of a control or a byte of no character.
template <typename Escape>
void AppendEscaping(std::string& out, std::string_view text, const Escape& escape) {
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    const std::string_view character = text.substr(0, std::max<size_t>(bytes, 1));
    const auto code = bytes == 0 ? static_cast<unsigned char>(text[0]) : ControlCode(character);
    if (code) escape(*code);
    else out += character;
    text.remove_prefix(character.size());
  }
}

// `prefix` and two digits where there is no shorter form.
void AppendEscape(std::string& out, unsigned code, std::string_view prefix) {
  if (code == '\n') out += "\\n";
  else if (code == '\r') out += "\\r";
  else if (code == '\t') out += "\\t";
  else fmt::format_to(std::back_inserter(out), "{}{:02x}", prefix, code);
}

}  // namespace

void AppendPrintable(std::string& out, std::string_view text) {
  AppendEscaping(out, text, [&](unsigned code) { AppendEscape(out, code, "\\x"); });
}

void AppendJsonString(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const size_t plain = std::min(text.find_first_of("\"\\"), text.size());
    AppendEscaping(out, text.substr(0, plain), [&](unsigned code) { AppendEscape(out, code, "\\u00"); });
    if (plain < text.size()) (out += '\\') += text[plain];
    text.remove_prefix(std::min(plain + 1, text.size()));
  }
  out += '"';
}

}  // namespace baton
