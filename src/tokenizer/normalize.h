// Unicode normal forms of text before it is split, where a model asks for one (Qwen: NFC).
//
// Linear in the text, whatever it holds: runs of combining marks are sorted in O(n log n), because
// a client chooses them. Stateless and safe to use from any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace baton::tokenizer {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// True when `text` is surely in `form` already (a quick check that never says so wrongly).
bool IsSurelyNormal(std::string_view text, NormalForm form);

// `text`: well-formed UTF-8. kInternal when utf8proc fails.
Result<std::string> Normalize(std::string_view text, NormalForm form);

}  // namespace baton::tokenizer
