// The built-in filters and tests of Jinja2, with the `tojson` of transformers.
#pragma once

#include <span>
#include <string_view>

#include "tokenizer/jinja_value.h"

namespace baton::tokenizer::jinja {

struct Filter {
  std::string_view name;
  Value (*apply)(Interpreter&, const Value& value, const CallArgs&);
};

struct Test {
  std::string_view name;
  bool (*check)(Interpreter&, const Value& value, const CallArgs&);
};

// nullptr: no such filter or test.
const Filter* FindFilter(std::string_view name);
const Test* FindTest(std::string_view name);

// The tables behind FindFilter, by subject.
std::span<const Filter> TextFilters();
std::span<const Filter> SequenceFilters();
std::span<const Filter> SelectionFilters();
std::span<const Filter> ValueFilters();

// A value by dotted path ("a.b.0"), a plain key, or the value itself (nullptr or None).
class AttributeGetter {
 public:
  explicit AttributeGetter(const Value* attribute);
  Value Get(const Value& item) const;
  void SetDefault(const Value& fallback) { default_ = fallback; }

 private:
  std::vector<Value> parts_;
  Value default_ = Value::MakeNone();  // None: undefined stays undefined
};

}  // namespace baton::tokenizer::jinja
