// Readers of the parts of a tokenizer.json around its model: normalizer, pre_tokenizer,
// post_processor, decoder. Types that a byte-level BPE model does not use are refused by name.
// All errors carry the JSON path of what is wrong.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/json.h"
#include "common/status.h"
#include "tokenizer/normalize.h"
#include "tokenizer/pretokenize.h"

namespace baton::tokenizer {

// A member of an object, or null; wrong kinds are kDataCorrupt. `path` names the object.
Result<bool> BoolOr(const json::object& from, std::string_view key, bool fallback,
                    std::string_view path);
Result<std::string> RequireString(const json::object& from, std::string_view key,
                                  std::string_view path);
Result<int32_t> RequireId(const json::value& value, std::string_view path);
// The object in `value`, or kDataCorrupt.
Result<const json::object*> RequireObject(const json::value& value, std::string_view path);

// What add_special_tokens puts around a text.
struct Surroundings {
  std::vector<int32_t> prefix_ids, suffix_ids;
};

// Each takes the member of the tokenizer.json object by that name; nullptr when absent.
Result<std::vector<NormalForm>> ReadNormalizer(const json::value* value);
Result<Pretokenizer> ReadPretokenizer(const json::value* value);
Result<Surroundings> ReadPostProcessor(const json::value* value);
Status CheckDecoder(const json::value* value);

}  // namespace baton::tokenizer
