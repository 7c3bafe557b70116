// map, select, reject and their attribute forms. They give generators, as in Python: items come
// when they are asked for, and only once.
#include <algorithm>
#include <memory>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_ops.h"

namespace baton::tokenizer::jinja {
namespace {

// An iterator over `value` that starts with the first request, as a Python generator does.
Value LazyGenerator(const Value& value,
                    std::function<std::function<bool(Iterator&, Value*)>()> prepare) {
  struct State {
    std::unique_ptr<Iterator> iterator;
    std::function<bool(Iterator&, Value*)> step;
    bool done = false;
  };
  auto state = std::make_shared<State>();
  return Value::MakeGenerator(
      "generator", value.depth() + 1, [state, value, prepare = std::move(prepare)](Value* item) {
        if (state->done) return false;
        if (!state->iterator) {
          state->done = !Truthy(value);
          if (state->done) return false;
          state->step = prepare();
          state->iterator = std::make_unique<Iterator>(value);
        }
        state->done = !state->step(*state->iterator, item);
        return !state->done;
      });
}

CallArgs WithoutFirst(const CallArgs& args, size_t count) {
  CallArgs rest = args;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

std::string NameArgument(const Value& name, std::string_view what) {
  if (!name.IsString()) Throw(ErrorKind::kType, "No {} named {}.", what, Repr(name));
  return name.text();
}

std::function<Value(const Value&)> PrepareMap(Interpreter& interpreter, const CallArgs& args) {
  const auto attribute = std::find_if(args.named.begin(), args.named.end(),
                                      [](const auto& arg) { return arg.first == "attribute"; });
  if (args.positional.empty() && attribute != args.named.end()) {
    AttributeGetter getter(&attribute->second);
    for (const auto& [name, value] : args.named) {
      if (name == "default") {
        getter.SetDefault(value);
      } else if (name != "attribute") {
        Throw(ErrorKind::kType, "Unexpected keyword argument '{}'", name);
      }
    }
    return [getter](const Value& item) { return getter.Get(item); };
  }
  if (args.positional.empty()) Throw(ErrorKind::kType, "map requires a filter argument");
  const std::string name = NameArgument(args.positional[0], "filter");
  const Filter* filter = FindFilter(name);
  if (!filter) Throw(ErrorKind::kType, "No filter named '{}'.", name);
  return [&interpreter, filter, rest = WithoutFirst(args, 1)](const Value& item) {
    return filter->apply(interpreter, item, rest);
  };
}

Value Map(Interpreter& interpreter, const Value& value, const CallArgs& args) {
  return LazyGenerator(value, [&interpreter, args] {
    return [convert = PrepareMap(interpreter, args)](Iterator& items, Value* out) {
      Value item;
      if (!items.Next(&item)) return false;
      *out = convert(item);
      return true;
    };
  });
}

std::function<bool(const Value&)> PrepareSelect(Interpreter& interpreter, const CallArgs& args,
                                                bool by_attribute) {
  const size_t offset = by_attribute ? 1 : 0;
  if (args.positional.size() < offset) {
    Throw(ErrorKind::kType, "Missing parameter for attribute name");
  }
  const AttributeGetter getter(by_attribute ? &args.positional[0] : nullptr);
  if (args.positional.size() == offset) {
    return [getter](const Value& item) { return Truthy(getter.Get(item)); };
  }
  const std::string name = NameArgument(args.positional[offset], "test");
  const Test* test = FindTest(name);
  if (!test) Throw(ErrorKind::kType, "No test named '{}'.", name);
  return [&interpreter, getter, test,
          rest = WithoutFirst(args, offset + 1)](const Value& item) {
    return test->check(interpreter, getter.Get(item), rest);
  };
}

template <bool by_attribute, bool wanted>
Value Select(Interpreter& interpreter, const Value& value, const CallArgs& args) {
  return LazyGenerator(value, [&interpreter, args] {
    return [check = PrepareSelect(interpreter, args, by_attribute)](Iterator& items, Value* out) {
      while (items.Next(out)) {
        if (check(*out) == wanted) return true;
      }
      return false;
    };
  });
}

constexpr Filter kSelectionFilters[] = {{"map", Map},
                                        {"reject", Select<false, false>},
                                        {"rejectattr", Select<true, false>},
                                        {"select", Select<false, true>},
                                        {"selectattr", Select<true, true>}};

}  // namespace

std::span<const Filter> SelectionFilters() { return kSelectionFilters; }

}  // namespace baton::tokenizer::jinja
