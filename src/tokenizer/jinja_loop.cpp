// The `loop` variable, and attributes of macros.
#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_ops.h"

namespace baton::tokenizer::jinja {

std::optional<Value> MacroObject::Attribute(std::string_view attribute) const {
  if (attribute == "name") return Value::MakeString(std::string(name));
  if (attribute == "catch_kwargs") return Value(stmt->uses_kwargs);
  if (attribute == "catch_varargs") return Value(stmt->uses_varargs);
  if (attribute == "caller") return Value(stmt->uses_caller);
  if (attribute == "arguments") {
    std::vector<Value> names;
    for (const Param& param : stmt->params) names.push_back(Value::MakeString(param.name));
    return Value::MakeTuple(std::move(names));
  }
  return std::nullopt;
}

bool LoopObject::HasNext() {
  if (!pending.empty()) return true;
  Value item;
  if (!source(&item)) return false;
  pending.push_back(std::move(item));
  return true;
}

bool LoopObject::Next(Value* item) {
  if (!HasNext()) return false;
  previous = std::move(current);
  current = std::move(pending.front());
  pending.pop_front();
  ++index0;
  *item = current;
  return true;
}

int64_t LoopObject::Length() {
  if (!known_length) {
    for (Value item; source(&item);) pending.push_back(std::move(item));
    known_length = index0 + 1 + static_cast<int64_t>(pending.size());
  }
  return *known_length;
}

Value LoopObject::Cycle(const CallArgs& args) {
  if (args.positional.empty()) Throw(ErrorKind::kType, "no items for cycling given");
  return args.positional[static_cast<size_t>(index0) % args.positional.size()];
}

Value LoopObject::Changed(const CallArgs& args) {
  Value now = Value::MakeTuple(args.positional);
  if (changed && Equal(*changed, now)) return Value(false);
  if (!finished) changed = std::move(now);  // a loop that ended must not hold itself
  return Value(true);
}

std::optional<Value> LoopObject::Attribute(std::string_view attribute) {
  if (attribute == "index") return Value(index0 + 1);
  if (attribute == "index0") return Value(index0);
  if (attribute == "first") return Value(index0 == 0);
  if (attribute == "last") return Value(!HasNext());
  if (attribute == "length") return Value(Length());
  if (attribute == "revindex") return Value(Length() - index0);
  if (attribute == "revindex0") return Value(Length() - index0 - 1);
  if (attribute == "depth") return Value(depth0 + 1);
  if (attribute == "depth0") return Value(depth0);
  if (attribute == "previtem") {
    return index0 == 0 ? Value::UndefinedBecause("there is no previous item") : previous;
  }
  if (attribute == "nextitem") {
    return HasNext() ? pending.front() : Value::UndefinedBecause("there is no next item");
  }
  return std::nullopt;  // cycle and changed are methods: jinja_methods.cpp
}

}  // namespace baton::tokenizer::jinja
