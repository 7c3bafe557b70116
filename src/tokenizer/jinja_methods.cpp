#include "tokenizer/jinja_methods.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_ops.h"

namespace baton::tokenizer::jinja {
namespace {

Value View(const Value& self, SequenceKind kind) {
  std::vector<Value> items;
  items.reserve(self.dict().items.size());
  for (const auto& [key, value] : self.dict().items) {
    if (kind == SequenceKind::kKeys) items.push_back(key);
    if (kind == SequenceKind::kValues) items.push_back(value);
    if (kind == SequenceKind::kItems) items.push_back(Value::MakeTuple({key, value}));
  }
  return Value::MakeList(std::move(items), kind);
}

Value DictItemsView(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("items", args, {});
  return View(self, SequenceKind::kItems);
}

Value DictKeysView(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("keys", args, {});
  return View(self, SequenceKind::kKeys);
}

Value DictValuesView(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("values", args, {});
  return View(self, SequenceKind::kValues);
}

Value DictGet(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("get", args, {"", ""}, 1);
  const Value* found = self.dict().Find(bound[0]);
  if (found) return *found;
  return bound.Has(1) ? bound[1] : Value::MakeNone();
}

Value Copy(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("copy", args, {});
  return self;  // values cannot change, so nobody can tell a copy
}

Value SequenceIndex(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("index", args, {"", "", ""}, 1);
  const int64_t size = Length(self);
  const auto clamp = [size](int64_t i) {
    return std::clamp<int64_t>(i < 0 ? i + size : i, 0, size);
  };
  const int64_t stop = clamp(bound.Int(2, size));
  for (int64_t i = clamp(bound.Int(1, 0)); i < stop; ++i) {
    if (Equal(GetItem(self, Value(i)), bound[0])) return Value(i);
  }
  Throw(ErrorKind::kValue, "{} is not in {}", Repr(bound[0]), TypeName(self));
}

Value SequenceCount(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("count", args, {""}, 1);
  int64_t count = 0;
  Iterator it(self);
  for (Value item; it.Next(&item);) count += Equal(item, bound[0]) ? 1 : 0;
  return Value(count);
}

Value FloatIsInteger(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("is_integer", args, {});
  return Value(std::isfinite(self.number()) && std::floor(self.number()) == self.number());
}

Value IntBitLength(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("bit_length", args, {});
  const int64_t value = self.integer();
  auto magnitude = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  int64_t bits = 0;
  for (; magnitude; magnitude >>= 1) ++bits;
  return Value(bits);
}

Value LoopCycle(Interpreter&, const Value& self, const CallArgs& args) {
  return self.loop().Cycle(args);
}

Value LoopChanged(Interpreter&, const Value& self, const CallArgs& args) {
  return self.loop().Changed(args);
}

template <size_t N>
bool IsOneOf(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// What changes a list or dict in place: hidden by the immutable sandbox.
bool IsMutator(const Value& object, std::string_view name) {
  static constexpr std::array<std::string_view, 8> kList = {
      "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
  static constexpr std::array<std::string_view, 5> kDict = {"clear", "pop", "popitem",
                                                            "setdefault", "update"};
  if (object.IsSequence(SequenceKind::kList)) return IsOneOf(name, kList);
  return object.Is(Kind::kDict) && IsOneOf(name, kDict);
}

// Plain attributes of Python's numbers, ranges and group tuples.
std::optional<Value> DataAttribute(const Value& object, std::string_view name) {
  if (object.IsInteger()) {
    if (name == "real" || name == "numerator") return Value(object.integer());
    if (name == "imag") return Value(int64_t{0});
    if (name == "denominator") return Value(int64_t{1});
  }
  if (object.Is(Kind::kFloat)) {
    if (name == "real") return object;
    if (name == "imag") return Value(0.0);
  }
  if (object.Is(Kind::kRange)) {
    const RangeObject& range = object.range();
    if (name == "start") return Value(range.start);
    if (name == "stop") return Value(range.stop);
    if (name == "step") return Value(range.step);
  }
  if (object.IsSequence(SequenceKind::kGroup)) {
    if (name == "grouper") return object.list().items[0];
    if (name == "list") return object.list().items[1];
  }
  return std::nullopt;
}

}  // namespace

MethodFn FindContainerMethod(const Value& object, std::string_view name) {
  switch (object.kind()) {
    case Kind::kDict:
      if (name == "items") return DictItemsView;
      if (name == "keys") return DictKeysView;
      if (name == "values") return DictValuesView;
      if (name == "get") return DictGet;
      return name == "copy" ? Copy : nullptr;
    case Kind::kList:
      if (!object.IsPlainSequence()) return nullptr;
      if (name == "copy") return object.IsTuple() ? nullptr : Copy;
      [[fallthrough]];
    case Kind::kRange:
      if (name == "index") return SequenceIndex;
      return name == "count" ? SequenceCount : nullptr;
    case Kind::kFloat: return name == "is_integer" ? FloatIsInteger : nullptr;
    case Kind::kBool:
    case Kind::kInt: return name == "bit_length" ? IntBitLength : nullptr;
    case Kind::kLoop:
      if (name == "cycle") return LoopCycle;
      return name == "changed" ? LoopChanged : nullptr;
    default: return nullptr;
  }
}

std::optional<Value> FindMethod(const Value& object, std::string_view name) {
  if (IsMutator(object, name)) return Value::UndefinedAttribute(object, name, true);
  if (std::optional<Value> data = DataAttribute(object, name)) return data;
  const MethodFn method =
      object.IsString() ? FindStringMethod(name) : FindContainerMethod(object, name);
  if (!method) return std::nullopt;
  return Value::MakeMethod(object, name, method);
}

}  // namespace baton::tokenizer::jinja
