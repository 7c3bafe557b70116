// Subscripts, attributes and slices.
#include <algorithm>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_globals.h"
#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_ops.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

// object[key] of Python; nullopt where that raises a TypeError or LookupError.
std::optional<Value> Subscript(const Value& object, const Value& key) {
  if (object.Is(Kind::kDict)) {
    try {
      const Value* found = object.dict().Find(key);
      return found ? std::optional<Value>(*found) : std::nullopt;
    } catch (const TemplateError& e) {
      if (e.kind == ErrorKind::kType) return std::nullopt;  // unhashable
      throw;
    }
  }
  const bool indexable =
      object.IsString() || object.Is(Kind::kRange) || object.IsPlainSequence();
  if (!indexable || !key.IsInteger()) return std::nullopt;
  const int64_t size = Length(object);
  const int64_t index = key.integer() < 0 ? key.integer() + size : key.integer();
  if (index < 0 || index >= size) return std::nullopt;
  if (object.Is(Kind::kRange)) return Value(object.range().At(index));
  if (object.Is(Kind::kList)) return object.list().items[static_cast<size_t>(index)];
  const std::string& text = object.text();
  if (object.string().ascii()) {
    return Value::MakeString(std::string(1, text[static_cast<size_t>(index)]));
  }
  ChargeWork(text.size());
  const size_t offset = OffsetOfIndex(text, static_cast<size_t>(index));
  return Value::MakeString(text.substr(offset, CodePointSize(text, offset)));
}

// `dict` is a type in Python: dict.fromkeys is its class method, and subscripting it with anything
// gives a generic alias that makes dicts too (GigaChat's template calls dict.from_keys(pairs)).
std::optional<Value> FunctionAttribute(const Value& function, std::string_view name) {
  if (function.function().name != "dict") return std::nullopt;
  return name == "fromkeys" ? Value(&DictFromKeys()) : function;
}

// getattr(object, name) of Python behind the sandbox; nullopt where that raises AttributeError.
std::optional<Value> Attribute(const Value& object, const Value& name) {
  const std::string& text = name.text();
  switch (object.kind()) {
    case Kind::kNamespace: {
      const Value* found = object.name_space().Find(text);
      if (!found) return std::nullopt;
      if (text.starts_with('_')) return Value::UndefinedAttribute(object, text, true);
      return *found;
    }
    case Kind::kLoop: {
      std::optional<Value> found = object.loop().Attribute(text);
      return found ? found : FindMethod(object, text);
    }
    case Kind::kMacro: return object.macro().Attribute(text);
    case Kind::kFunction: return FunctionAttribute(object, text);
    default: return FindMethod(object, text);
  }
}

std::optional<int64_t> SlicePart(const Value& part) {
  if (part.IsNone()) return std::nullopt;
  if (!part.IsInteger()) {
    Throw(ErrorKind::kType,
          "slice indices must be integers or None or have an __index__ method");
  }
  return part.integer();
}

std::string SliceText(const StringObject& string, const SliceRange& range) {
  const std::string& text = string.text;
  const auto count = static_cast<size_t>(range.count);
  if (range.count == 0) return {};
  if (range.step == 1) {
    if (string.ascii()) return text.substr(static_cast<size_t>(range.start), count);
    ChargeWork(text.size());
    const size_t start = OffsetOfIndex(text, static_cast<size_t>(range.start));
    const std::string_view rest = std::string_view(text).substr(start);
    return std::string(rest.substr(0, OffsetOfIndex(rest, count)));
  }
  const std::u32string points = Decode(text);
  ChargeWork(text.size() * 4);
  std::string out;
  for (int64_t i = 0; i < range.count; ++i) {
    AppendCodePoint(out, points[static_cast<size_t>(range.start + i * range.step)]);
  }
  return out;
}

}  // namespace

Value GetItem(const Value& object, const Value& key) {
  if (object.IsUndefined()) object.FailUndefined();
  if (std::optional<Value> found = Subscript(object, key)) return *std::move(found);
  if (key.IsString()) {
    if (std::optional<Value> found = Attribute(object, key)) return *std::move(found);
    return Value::UndefinedAttribute(object, key.text());
  }
  return Value::UndefinedBecause(
      fmt::format("'{}' has no element {}", TypeName(object), Repr(key)));
}

Value GetAttribute(const Value& object, const Value& name) {
  if (object.IsUndefined()) object.FailUndefined();
  if (std::optional<Value> found = Attribute(object, name)) return *std::move(found);
  if (std::optional<Value> found = Subscript(object, name)) return *std::move(found);
  return Value::UndefinedAttribute(object, name.text());
}

int64_t ToIndex(const Value& value) {
  if (value.IsInteger()) return value.integer();
  if (value.IsUndefined()) value.FailUndefined();
  Throw(ErrorKind::kType, "'{}' object cannot be interpreted as an integer", TypeName(value));
}

SliceRange ResolveSlice(int64_t size, std::optional<int64_t> start, std::optional<int64_t> stop,
                        std::optional<int64_t> step_part) {
  const int64_t step = std::max(step_part.value_or(1), -INT64_MAX);
  if (step == 0) Throw(ErrorKind::kValue, "slice step cannot be zero");
  const int64_t lowest = step < 0 ? -1 : 0, highest = step < 0 ? size - 1 : size;
  const auto clamp = [&](std::optional<int64_t> part, int64_t fallback) {
    if (!part) return fallback;
    if (*part < 0) return std::max(*part + size, lowest);
    return std::min(*part, highest);
  };
  const int64_t first = clamp(start, step < 0 ? highest : lowest);
  const int64_t last = clamp(stop, step < 0 ? lowest : highest);
  const int64_t distance = step < 0 ? first - last : last - first;
  const int64_t stride = step < 0 ? -step : step;
  return {first, last, step, distance <= 0 ? 0 : (distance - 1) / stride + 1};
}

Value GetSlice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.IsUndefined()) object.FailUndefined();
  const bool sliceable = object.IsString() || object.Is(Kind::kRange) || object.IsPlainSequence();
  if (object.Is(Kind::kDict)) Throw(ErrorKind::kType, "unhashable type: 'slice'");
  if (!sliceable) Throw(ErrorKind::kType, "'{}' object is not subscriptable", TypeName(object));
  const std::optional<int64_t> parts[] = {SlicePart(start), SlicePart(stop), SlicePart(step)};
  const SliceRange range = ResolveSlice(Length(object), parts[0], parts[1], parts[2]);
  if (object.IsString()) {
    return Value::MakeString(SliceText(object.string(), range), object.string().markup);
  }
  if (object.Is(Kind::kRange)) {
    const RangeObject& r = object.range();
    int64_t new_step;
    if (__builtin_mul_overflow(r.step, range.step, &new_step)) {
      Throw(ErrorKind::kOverflow, "the step of a range does not fit in a 64-bit integer");
    }
    return Value(RangeObject{r.At(range.start), r.At(range.stop), new_step, range.count});
  }
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(range.count));
  for (int64_t i = 0; i < range.count; ++i) {
    items.push_back(object.list().items[static_cast<size_t>(range.start + i * range.step)]);
  }
  return Value::MakeList(std::move(items),
                         object.IsTuple() ? SequenceKind::kTuple : SequenceKind::kList);
}

}  // namespace baton::tokenizer::jinja
