#include "tokenizer/jinja_value.h"

#include <algorithm>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_ops.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

int CheckDepth(int depth) {
  const Budget* budget = Budget::Current();
  const int limit = budget ? budget->limits().value_depth : Limits().value_depth;
  if (depth > limit) Throw(ErrorKind::kLimit, "values are nested more than {} deep", limit);
  return depth;
}

int DepthOf(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return CheckDepth(depth + 1);
}

int DepthOf(const DictItems& items) {
  int depth = 0;
  for (const auto& [key, value] : items) depth = std::max({depth, key.depth(), value.depth()});
  return CheckDepth(depth + 1);
}

}  // namespace

void CheckHashable(const Value& key) {
  if (key.Is(Kind::kDict) || key.IsSequence(SequenceKind::kList)) {
    Throw(ErrorKind::kType, "unhashable type: '{}'", TypeName(key));
  }
  if (key.IsTuple()) {
    ChargeWork(32 * (1 + key.list().items.size()));
    for (const Value& item : key.list().items) CheckHashable(item);
  }
}

StringObject::StringObject(std::string t, bool m)
    : text(std::move(t)),
      length(static_cast<int64_t>(CountCodePoints(text))),
      markup(m),
      charge(sizeof(StringObject) + text.size()) {}

ListObject::ListObject(std::vector<Value> i, SequenceKind k)
    : items(std::move(i)),
      kind(k),
      depth(DepthOf(items)),
      charge(sizeof(ListObject) + items.size() * sizeof(Value)) {}

DictObject::DictObject(DictItems i)
    : items(std::move(i)),
      depth(DepthOf(items)),
      charge(sizeof(DictObject) + items.size() * 2 * sizeof(Value)) {}

const Value* DictObject::Find(std::string_view key) const {
  constexpr size_t kScanned = 12;  // below this a scan beats a hash table
  if (items.size() > kScanned && index_.empty()) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (items[i].first.IsString()) index_.emplace(items[i].first.text(), i);
    }
  }
  if (!index_.empty()) {
    const auto found = index_.find(key);
    return found == index_.end() ? nullptr : &items[found->second].second;
  }
  for (const auto& [name, value] : items) {
    if (name.IsString() && name.text() == key) return &value;
  }
  return nullptr;
}

const Value* DictObject::Find(const Value& key) const {
  if (key.IsString()) return Find(key.text());
  CheckHashable(key);
  ChargeWork(items.size() * 8);
  for (const auto& [name, value] : items) {
    if (!name.IsString() && Equal(name, key)) return &value;
  }
  return nullptr;
}

GeneratorObject::GeneratorObject(std::string_view t, int d, std::function<bool(Value*)> n)
    : type_name(t),
      depth(CheckDepth(d)),
      next(std::move(n)),
      charge(sizeof(GeneratorObject) + 64) {}

Value Value::MakeString(std::string text, bool markup) {
  CheckStringSize(text.size());
  return Value(std::make_shared<const StringObject>(std::move(text), markup));
}

Value Value::MakeList(std::vector<Value> items, SequenceKind kind) {
  CheckListSize(items.size());
  return Value(std::make_shared<const ListObject>(std::move(items), kind));
}

Value Value::MakeDict(DictItems items) {
  CheckListSize(items.size());
  return Value(std::make_shared<const DictObject>(std::move(items)));
}

Value Value::MakeGenerator(std::string_view type_name, int depth,
                           std::function<bool(Value*)> next) {
  return Value(std::make_shared<GeneratorObject>(type_name, depth, std::move(next)));
}

Value Value::MakeMethod(Value self, std::string_view name, MethodFn fn) {
  CheckDepth(self.depth() + 1);
  return Value(std::make_shared<const MethodObject>(
      MethodObject{std::move(self), std::string(name), fn}));
}

Value Value::UndefinedName(std::string_view name) {
  return Value(Data(Undefined{std::make_shared<const std::string>(name), {}, false, false}));
}

Value Value::UndefinedAttribute(const Value& object, std::string_view name, bool unsafe) {
  return Value(Data(Undefined{std::make_shared<const std::string>(name),
                              object.IsNone() ? std::string_view("None") : TypeName(object), unsafe,
                              false}));
}

Value Value::UndefinedBecause(std::string message) {
  return Value(
      Data(Undefined{std::make_shared<const std::string>(std::move(message)), {}, false, true}));
}

bool Value::IsSame(const Value& other) const {
  if (kind() != other.kind()) return false;
  switch (kind()) {
    case Kind::kUndefined: return undefined().name == other.undefined().name;
    case Kind::kNone: return true;
    case Kind::kBool: return boolean() == other.boolean();
    case Kind::kInt: return integer() == other.integer();
    case Kind::kFloat: return false;
    case Kind::kString: return &string() == &other.string() || text() == other.text();
    case Kind::kRange: return false;
    case Kind::kList: return &list() == &other.list();
    case Kind::kDict: return &dict() == &other.dict();
    case Kind::kGenerator: return &generator() == &other.generator();
    case Kind::kMethod: return method().call == other.method().call &&
                               method().self.IsSame(other.method().self);
    case Kind::kFunction: return &function() == &other.function();
    case Kind::kMacro: return &macro() == &other.macro();
    case Kind::kNamespace: return &name_space() == &other.name_space();
    case Kind::kLoop: return &loop() == &other.loop();
  }
  return false;
}

int Value::depth() const {
  switch (kind()) {
    case Kind::kList: return list().depth;
    case Kind::kDict: return dict().depth;
    case Kind::kGenerator: return generator().depth;
    case Kind::kMethod: return method().self.depth() + 1;
    default: return 0;
  }
}

std::string Value::UndefinedMessage() const {
  const Undefined& u = undefined();
  const std::string name = u.name ? *u.name : std::string();
  if (u.has_message) return name;
  if (u.owner.empty()) return fmt::format("'{}' is undefined", name);
  if (u.unsafe) {
    return fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, u.owner);
  }
  if (u.owner == "None") return fmt::format("'None' has no attribute '{}'", name);
  return fmt::format("'{} object' has no attribute '{}'", u.owner, name);
}

void Value::FailUndefined() const {
  throw TemplateError{undefined().unsafe ? ErrorKind::kSecurity : ErrorKind::kUndefined,
                      UndefinedMessage()};
}

const Value* NamespaceObject::Find(std::string_view name) const {
  for (const auto& [key, value] : items) {
    if (key == name) return &value;
  }
  return nullptr;
}

void NamespaceObject::Set(std::string_view name, Value value) {
  for (auto& [key, old] : items) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  items.emplace_back(name, std::move(value));
}

std::string_view TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return value.string().markup ? "Markup" : "str";
    case Kind::kList:
      switch (value.list().kind) {
        case SequenceKind::kList: return "list";
        case SequenceKind::kTuple: return "tuple";
        case SequenceKind::kGroup: return "_GroupTuple";
        case SequenceKind::kKeys: return "dict_keys";
        case SequenceKind::kValues: return "dict_values";
        case SequenceKind::kItems: return "dict_items";
      }
      return "list";
    case Kind::kDict: return "dict";
    case Kind::kRange: return "range";
    case Kind::kGenerator: return value.generator().type_name;
    case Kind::kMethod: return "builtin_function_or_method";
    case Kind::kFunction: return "function";
    case Kind::kMacro: return "Macro";
    case Kind::kNamespace: return "Namespace";
    case Kind::kLoop: return "LoopContext";
  }
  return "object";
}

bool Iterator::CanIterate(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kGenerator: return true;
    default: return false;
  }
}

Iterator::Iterator(const Value& source) : source_(source) {
  if (!CanIterate(source)) {
    Throw(ErrorKind::kType, "'{}' object is not iterable", TypeName(source));
  }
}

bool Iterator::Next(Value* item) {
  if (Budget* budget = Budget::Current()) budget->Step();
  switch (source_.kind()) {
    case Kind::kString: {
      const std::string& text = source_.text();
      if (position_ >= text.size()) return false;
      const size_t size = CodePointSize(text, position_);
      *item = Value::MakeString(text.substr(position_, size));
      position_ += size;
      return true;
    }
    case Kind::kList: {
      const auto& items = source_.list().items;
      if (position_ >= items.size()) return false;
      *item = items[position_++];
      return true;
    }
    case Kind::kDict: {
      const auto& items = source_.dict().items;
      if (position_ >= items.size()) return false;
      *item = items[position_++].first;
      return true;
    }
    case Kind::kRange:
      if (static_cast<int64_t>(position_) >= source_.range().size) return false;
      *item = Value(source_.range().At(static_cast<int64_t>(position_++)));
      return true;
    case Kind::kGenerator: return source_.generator().next(item);
    default: return false;
  }
}

std::vector<Value> ToVector(const Value& iterable) {
  if (iterable.Is(Kind::kList)) return iterable.list().items;
  std::vector<Value> items;
  Iterator it(iterable);
  for (Value item; it.Next(&item);) items.push_back(std::move(item));
  return items;
}

Value* DictBuilder::FindOrAdd(Value key, bool* added) {
  *added = false;
  if (key.IsString()) {
    const auto [it, inserted] = strings_.emplace(key.text(), items_.size());
    if (!inserted) return &items_[it->second].second;
  } else {
    CheckHashable(key);
    ChargeWork(items_.size() * 8);
    for (auto& [name, value] : items_) {
      if (!name.IsString() && Equal(name, key)) return &value;
    }
  }
  *added = true;
  return &items_.emplace_back(std::move(key), Value()).second;
}

void DictBuilder::Set(Value key, Value value) {
  bool added;
  *FindOrAdd(std::move(key), &added) = std::move(value);
}

void DictBuilder::SetDefault(Value key, Value value) {
  bool added;
  Value* slot = FindOrAdd(std::move(key), &added);
  if (added) *slot = std::move(value);
}

}  // namespace baton::tokenizer::jinja
