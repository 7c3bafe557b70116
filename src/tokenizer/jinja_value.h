// The values of a template: Python's, as far as templates can see them.
//
// Strings, lists and dicts are immutable once made (Jinja's immutable sandbox forbids to change
// them), so values share them freely and cannot form cycles. Namespaces, which can change, and
// macros live in the interpreter's arena and are held here by plain pointer: a Value must not
// outlive its render. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "tokenizer/jinja_budget.h"

namespace baton::tokenizer::jinja {

class Interpreter;
class Value;
struct LoopObject;   // jinja_eval.h
struct MacroObject;  // jinja_eval.h
struct NamespaceObject;

enum class Kind : uint8_t {  // the order of Value::Data
  kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kDict, kRange, kGenerator, kMethod,
  kFunction, kMacro, kNamespace, kLoop,
};

// UTF-8 text; Python counts code points, so we keep their number.
struct StringObject {
  StringObject(std::string text, bool markup);
  bool ascii() const { return static_cast<size_t>(length) == text.size(); }

  const std::string text;
  const int64_t length;  // code points
  const bool markup;     // made by `safe` or `escape`
  const Charge charge;
};

enum class SequenceKind : uint8_t { kList, kTuple, kGroup, kKeys, kValues, kItems };

struct ListObject {
  ListObject(std::vector<Value> items, SequenceKind kind);

  const std::vector<Value> items;
  const SequenceKind kind;
  const int depth;  // 1 + the deepest item
  const Charge charge;
};

using DictItems = std::vector<std::pair<Value, Value>>;

struct DictObject {
  explicit DictObject(DictItems items);
  // The value of `key` as Python finds it (1, 1.0 and True are one key), or nullptr. An unhashable
  // key throws kType.
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;

  const DictItems items;  // in insertion order, keys unique
  const int depth;
  const Charge charge;

 private:
  mutable std::unordered_map<std::string_view, uint32_t> index_;  // of string keys, made on demand
};

struct RangeObject {
  int64_t start, stop, step, size;
  int64_t At(int64_t i) const {  // unsigned: one step past the end may wrap
    return static_cast<int64_t>(static_cast<uint64_t>(start) +
                                static_cast<uint64_t>(i) * static_cast<uint64_t>(step));
  }
};

// A Python iterator: always true, has no length, can be read once.
struct GeneratorObject {
  GeneratorObject(std::string_view type_name, int depth, std::function<bool(Value*)> next);

  const std::string_view type_name;
  const int depth;  // nested generators run nested, so they count like nested lists
  std::function<bool(Value*)> next;
  const Charge charge;
};

struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

using MethodFn = Value (*)(Interpreter&, const Value& self, const CallArgs&);
using FunctionFn = Value (*)(Interpreter&, const CallArgs&);

struct MethodObject;

struct Function {  // a global such as range
  std::string_view name;
  FunctionFn call;
};

class Value {
 public:
  struct Undefined {
    std::shared_ptr<const std::string> name;
    std::string_view owner;       // type of the object whose attribute it was; empty: a variable
    bool unsafe = false;          // hidden by the sandbox
    bool has_message = false;     // `name` is the whole message
  };
  struct None {};

  Value() : data_(Undefined{}) {}
  explicit Value(bool b) : data_(b) {}
  explicit Value(int64_t i) : data_(i) {}
  explicit Value(double d) : data_(d) {}
  explicit Value(std::shared_ptr<const StringObject> s) : data_(std::move(s)) {}
  explicit Value(std::shared_ptr<const ListObject> l) : data_(std::move(l)) {}
  explicit Value(std::shared_ptr<const DictObject> d) : data_(std::move(d)) {}
  explicit Value(std::shared_ptr<GeneratorObject> g) : data_(std::move(g)) {}
  explicit Value(std::shared_ptr<const MethodObject> m) : data_(std::move(m)) {}
  explicit Value(RangeObject r) : data_(r) {}
  explicit Value(const Function* f) : data_(f) {}
  explicit Value(MacroObject* m) : data_(m) {}
  explicit Value(NamespaceObject* n) : data_(n) {}
  explicit Value(std::shared_ptr<LoopObject> l) : data_(std::move(l)) {}
  Value(const char*) = delete;  // would be a bool

  static Value MakeNone() { return Value(Data(None{})); }
  static Value MakeString(std::string text, bool markup = false);
  static Value MakeList(std::vector<Value> items, SequenceKind kind = SequenceKind::kList);
  static Value MakeTuple(std::vector<Value> items) {
    return MakeList(std::move(items), SequenceKind::kTuple);
  }
  static Value MakeDict(DictItems items);
  static Value MakeGenerator(std::string_view type_name, int depth,
                             std::function<bool(Value*)> next);
  static Value MakeMethod(Value self, std::string_view name, MethodFn fn);
  static Value UndefinedName(std::string_view name);
  static Value UndefinedAttribute(const Value& object, std::string_view name, bool unsafe = false);
  static Value UndefinedBecause(std::string message);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool Is(Kind k) const { return kind() == k; }
  bool IsUndefined() const { return Is(Kind::kUndefined); }
  bool IsNone() const { return Is(Kind::kNone); }
  bool IsString() const { return Is(Kind::kString); }
  bool IsInteger() const { return Is(Kind::kInt) || Is(Kind::kBool); }  // Python: bool is an int
  bool IsNumber() const { return IsInteger() || Is(Kind::kFloat); }
  bool IsSequence(SequenceKind k) const { return Is(Kind::kList) && list().kind == k; }
  bool IsPlainSequence() const {
    return IsSequence(SequenceKind::kList) || IsTuple();
  }
  bool IsTuple() const {
    return IsSequence(SequenceKind::kTuple) || IsSequence(SequenceKind::kGroup);
  }

  bool boolean() const { return std::get<bool>(data_); }
  int64_t integer() const { return Is(Kind::kBool) ? boolean() : std::get<int64_t>(data_); }
  double number() const {
    return Is(Kind::kFloat) ? std::get<double>(data_) : static_cast<double>(integer());
  }
  const StringObject& string() const { return *std::get<StringRef>(data_); }
  const std::string& text() const { return string().text; }
  const ListObject& list() const { return *std::get<ListRef>(data_); }
  const DictObject& dict() const { return *std::get<DictRef>(data_); }
  const RangeObject& range() const { return std::get<RangeObject>(data_); }
  GeneratorObject& generator() const { return *std::get<GeneratorRef>(data_); }
  const MethodObject& method() const { return *std::get<MethodRef>(data_); }
  const Function& function() const { return *std::get<const Function*>(data_); }
  MacroObject& macro() const { return *std::get<MacroObject*>(data_); }
  NamespaceObject& name_space() const { return *std::get<NamespaceObject*>(data_); }
  LoopObject& loop() const { return *std::get<LoopRef>(data_); }
  const Undefined& undefined() const { return std::get<Undefined>(data_); }

  // Python's `is`.
  bool IsSame(const Value& other) const;
  // Nesting of lists, dicts and generators below and including this value.
  int depth() const;
  // "'x' is undefined", "'dict object' has no attribute 'x'" ...
  std::string UndefinedMessage() const;
  // Throws kUndefined (or kSecurity) with that message.
  [[noreturn]] void FailUndefined() const;

 private:
  using StringRef = std::shared_ptr<const StringObject>;
  using ListRef = std::shared_ptr<const ListObject>;
  using DictRef = std::shared_ptr<const DictObject>;
  using GeneratorRef = std::shared_ptr<GeneratorObject>;
  using MethodRef = std::shared_ptr<const MethodObject>;
  using LoopRef = std::shared_ptr<LoopObject>;
  using Data = std::variant<Undefined, None, bool, int64_t, double, StringRef, ListRef, DictRef,
                            RangeObject, GeneratorRef, MethodRef, const Function*, MacroObject*,
                            NamespaceObject*, LoopRef>;
  explicit Value(Data data) : data_(std::move(data)) {}

  Data data_;
};

struct MethodObject {  // obj.name before its call
  Value self;
  std::string name;
  MethodFn call;
};

struct NamespaceObject {
  std::vector<std::pair<std::string, Value>> items;
  const Value* Find(std::string_view name) const;
  void Set(std::string_view name, Value value);
};

// Python's type(value).__name__: "str", "dict", "NoneType" ...
std::string_view TypeName(const Value& value);

// Throws kType for lists, dicts and tuples that hold them: no keys of dicts.
void CheckHashable(const Value& key);

// Walks what Python's iter() would give; keeps its source alive.
class Iterator {
 public:
  // Throws kType ("'int' object is not iterable").
  explicit Iterator(const Value& source);
  // False at the end. Charges one step.
  bool Next(Value* item);
  static bool CanIterate(const Value& value);

 private:
  Value source_;
  size_t position_ = 0;  // index, or byte offset in a string
};

std::vector<Value> ToVector(const Value& iterable);

// Collects dict items with Python's key rules (a later equal key replaces the value).
class DictBuilder {
 public:
  void Set(Value key, Value value);
  void SetDefault(Value key, Value value);  // keeps the value of a key that is there
  Value Build() { return Value::MakeDict(std::move(items_)); }

 private:
  Value* FindOrAdd(Value key, bool* added);

  DictItems items_;
  std::unordered_map<std::string, size_t> strings_;
};

}  // namespace baton::tokenizer::jinja
