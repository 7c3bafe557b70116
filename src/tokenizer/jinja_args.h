// Matches call arguments with a parameter list, as Python does for its own functions.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace baton::tokenizer::jinja {

class BoundArgs {
 public:
  // `names` in order; a name of "" can only be given by position. The first `required` must be
  // given. Throws kType with Python's wording otherwise. `args` must outlive this object.
  BoundArgs(std::string_view function, const CallArgs& args,
            std::initializer_list<std::string_view> names, size_t required = 0);

  const Value* Find(size_t i) const { return values_[i]; }  // nullptr: not given
  const Value& operator[](size_t i) const { return *values_[i]; }
  bool Has(size_t i) const { return values_[i] != nullptr; }

  bool Bool(size_t i, bool fallback) const;            // truth of any value
  int64_t Int(size_t i, int64_t fallback) const;       // kType unless an int
  // None counts as not given.
  std::optional<int64_t> OptionalInt(size_t i) const;
  const std::string& Text(size_t i) const;             // kType unless a string

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace baton::tokenizer::jinja
