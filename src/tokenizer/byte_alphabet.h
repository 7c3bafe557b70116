// GPT-2's printable alphabet: a bijection between the 256 byte values and 256 printable code
// points, so that byte-level vocabularies can be written as text. Printable Latin-1 bytes stand
// for themselves; the other 68 become U+0100.. in order (space = U+0120, newline = U+010A).
// Reference: "Language Models are Unsupervised Multitask Learners" (GPT-2), its byte encoder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace baton::tokenizer {

// The code point (below U+0144) that stands for `byte`.
char32_t ByteToAlphabet(uint8_t byte);

// `bytes` written in the alphabet, as UTF-8.
std::string ToAlphabet(std::string_view bytes);

// The bytes that `text` stands for; nullopt when a character is not of the alphabet (or not UTF-8).
std::optional<std::string> FromAlphabet(std::string_view text);

}  // namespace baton::tokenizer
