// Filters on lists, dicts and other iterables.
#include <algorithm>
#include <numeric>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_ops.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

Value IgnoreCase(const Value& value) {
  return value.IsString() ? Value::MakeString(ToLower(value.text())) : value;
}

Value ListGenerator(std::vector<Value> items, std::string_view type_name = "generator") {
  const Value list = Value::MakeList(std::move(items));
  auto iterator = std::make_shared<Iterator>(list);
  return Value::MakeGenerator(type_name, list.depth() + 1,
                              [iterator](Value* item) { return iterator->Next(item); });
}

Value First(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("first", args, {});
  Value item;
  if (Iterator(value).Next(&item)) return item;
  return Value::UndefinedBecause("No first item, sequence was empty.");
}

Value Last(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("last", args, {});
  if (value.Is(Kind::kGenerator) || !Iterator::CanIterate(value)) {
    Throw(ErrorKind::kType, "'{}' object is not reversible", TypeName(value));
  }
  if (Length(value) == 0) return Value::UndefinedBecause("No last item, sequence was empty.");
  if (value.Is(Kind::kList)) return value.list().items.back();
  if (value.Is(Kind::kDict)) return value.dict().items.back().first;
  return GetItem(value, Value(int64_t{-1}));
}

Value List(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("list", args, {});
  return Value::MakeList(ToVector(value));
}

Value Items(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("items", args, {});
  std::vector<Value> pairs;
  if (!value.IsUndefined()) {
    if (!value.Is(Kind::kDict)) {
      Throw(ErrorKind::kType, "Can only get item pairs from a mapping.");
    }
    for (const auto& [key, item] : value.dict().items) {
      pairs.push_back(Value::MakeTuple({key, item}));
    }
  }
  return ListGenerator(std::move(pairs));
}

Value Join(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("join", args, {"d", "attribute"});
  const std::string separator = bound.Has(0) ? Str(bound[0]) : "";
  const AttributeGetter getter(bound.Find(1));
  std::string out;
  Iterator it(value);
  bool first = true;
  for (Value item; it.Next(&item); first = false) {
    const size_t before = out.size();
    if (!first) out += separator;
    AppendStr(out, getter.Get(item));
    CheckStringSize(out.size());
    ChargeWork(out.size() - before);
  }
  return Value::MakeString(std::move(out));
}

// The order in which `keys` stand sorted; stable, also when reversed.
template <typename LessFn>
std::vector<size_t> SortedOrder(const std::vector<Value>& keys, bool reverse, LessFn less) {
  std::vector<size_t> order(keys.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    ChargeWork(32);
    return reverse ? less(keys[b], keys[a]) : less(keys[a], keys[b]);
  });
  return order;
}

std::vector<Value> Permute(const std::vector<Value>& items, const std::vector<size_t>& order) {
  std::vector<Value> out;
  out.reserve(items.size());
  for (const size_t i : order) out.push_back(items[i]);
  return out;
}

Value Sort(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<AttributeGetter> getters;
  if (bound.Has(2) && bound[2].IsString()) {
    std::string_view rest = bound.Text(2);
    while (true) {
      const size_t comma = rest.find(',');
      const Value part = Value::MakeString(std::string(rest.substr(0, comma)));
      getters.emplace_back(&part);
      if (comma == rest.npos) break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    getters.emplace_back(bound.Find(2));
  }
  const bool ignore_case = !bound.Bool(1, false);
  const std::vector<Value> items = ToVector(value);
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const AttributeGetter& getter : getters) {
      const Value part = getter.Get(item);
      key.push_back(ignore_case ? IgnoreCase(part) : part);
    }
    keys.push_back(Value::MakeList(std::move(key)));
  }
  const auto less = [](const Value& a, const Value& b) { return Less(a, b); };
  return Value::MakeList(Permute(items, SortedOrder(keys, bound.Bool(0, false), less)));
}

Value DictSort(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.Has(1) ? Str(bound[1]) : "key";
  if (by != "key" && by != "value") {
    Throw(ErrorKind::kValue, "You can only sort by either \"key\" or \"value\"");
  }
  if (value.IsUndefined()) value.FailUndefined();
  if (!value.Is(Kind::kDict)) {
    Throw(ErrorKind::kType, "'{}' object has no attribute 'items'", TypeName(value));
  }
  const bool ignore_case = !bound.Bool(0, false);
  std::vector<Value> items, keys;
  for (const auto& [key, item] : value.dict().items) {
    const Value& sort_key = by == "key" ? key : item;
    keys.push_back(ignore_case ? IgnoreCase(sort_key) : sort_key);
    items.push_back(Value::MakeTuple({key, item}));
  }
  const auto less = [](const Value& a, const Value& b) { return Less(a, b); };
  return Value::MakeList(Permute(items, SortedOrder(keys, bound.Bool(2, false), less)));
}

Value GroupBy(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  AttributeGetter getter(bound.Find(0));
  if (bound.Has(1)) getter.SetDefault(bound[1]);
  const bool ignore_case = !bound.Bool(2, false);
  const std::vector<Value> items = ToVector(value);
  std::vector<Value> keys;
  for (const Value& item : items) {
    const Value key = getter.Get(item);
    keys.push_back(ignore_case ? IgnoreCase(key) : key);
  }
  const auto less = [](const Value& a, const Value& b) { return Less(a, b); };
  const std::vector<size_t> order = SortedOrder(keys, false, less);
  std::vector<Value> groups;
  for (size_t i = 0; i < order.size();) {
    std::vector<Value> members;
    const size_t first = order[i];
    for (; i < order.size() && Equal(keys[order[i]], keys[first]); ++i) {
      members.push_back(items[order[i]]);
    }
    if (members.empty()) {  // a key that does not equal itself (NaN)
      members.push_back(items[order[i++]]);
    }
    groups.push_back(Value::MakeList(
        {getter.Get(items[first]), Value::MakeList(std::move(members))}, SequenceKind::kGroup));
  }
  return Value::MakeList(std::move(groups));
}

Value Unique(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("unique", args, {"case_sensitive", "attribute"});
  const AttributeGetter getter(bound.Find(1));
  const bool ignore_case = !bound.Bool(0, false);
  DictBuilder seen;
  Iterator it(value);
  for (Value item; it.Next(&item);) {
    const Value key = getter.Get(item);
    seen.SetDefault(ignore_case ? IgnoreCase(key) : key, item);
  }
  std::vector<Value> out;
  const Value unique = seen.Build();
  for (const auto& [key, item] : unique.dict().items) out.push_back(item);
  return ListGenerator(std::move(out));
}

template <bool maximum>
Value Extreme(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound(maximum ? "max" : "min", args, {"case_sensitive", "attribute"});
  const AttributeGetter getter(bound.Find(1));
  const bool ignore_case = !bound.Bool(0, false);
  Iterator it(value);
  Value best, best_key, item;
  if (!it.Next(&best)) return Value::UndefinedBecause("No aggregated item, sequence was empty.");
  const auto key_of = [&](const Value& v) {
    const Value key = getter.Get(v);
    return ignore_case ? IgnoreCase(key) : key;
  };
  best_key = key_of(best);
  while (it.Next(&item)) {
    Value key = key_of(item);
    if (maximum ? Less(best_key, key, ">") : Less(key, best_key)) {
      best = item;
      best_key = std::move(key);
    }
  }
  return best;
}

Value Sum(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("sum", args, {"attribute", "start"});
  const AttributeGetter getter(bound.Find(0));
  Value total = bound.Has(1) ? bound[1] : Value(int64_t{0});
  if (total.IsString())
    Throw(ErrorKind::kType, "sum() can't sum strings [use ''.join(seq) instead]");
  Iterator it(value);
  for (Value item; it.Next(&item);) total = Arithmetic(ExprKind::kAdd, total, getter.Get(item));
  return total;
}

Value Batch(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("batch", args, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.Int(0, 1);
  std::vector<Value> rows, row;
  Iterator it(value);
  for (Value item; it.Next(&item);) {
    if (static_cast<int64_t>(row.size()) == size) {
      rows.push_back(Value::MakeList(std::exchange(row, {})));
    }
    row.push_back(item);
  }
  if (!row.empty()) {
    const bool fill = bound.Has(1) && !bound[1].IsNone();
    if (fill && size > 0) CheckListSize(static_cast<uint64_t>(size));
    while (fill && static_cast<int64_t>(row.size()) < size) row.push_back(bound[1]);
    rows.push_back(Value::MakeList(std::move(row)));
  }
  return ListGenerator(std::move(rows));
}

Value Slice(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("slice", args, {"slices", "fill_with"}, 1);
  const std::vector<Value> items = ToVector(value);
  const int64_t slices = bound.Int(0, 1);
  if (slices == 0) Throw(ErrorKind::kValue, "integer division or modulo by zero");
  CheckListSize(static_cast<uint64_t>(std::max<int64_t>(slices, 0)));
  std::vector<Value> rows;
  const auto size = static_cast<int64_t>(items.size());
  size_t position = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const bool extra = i < size % slices;
    const auto count = static_cast<size_t>(size / slices + (extra ? 1 : 0));
    std::vector<Value> row(items.begin() + static_cast<std::ptrdiff_t>(position),
                           items.begin() + static_cast<std::ptrdiff_t>(position + count));
    position += count;
    if (!extra && bound.Has(1) && !bound[1].IsNone()) row.push_back(bound[1]);
    rows.push_back(Value::MakeList(std::move(row)));
  }
  return ListGenerator(std::move(rows));
}

Value Reverse(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("reverse", args, {});
  if (value.IsString()) {
    return GetSlice(value, Value::MakeNone(), Value::MakeNone(), Value(int64_t{-1}));
  }
  std::vector<Value> items = ToVector(value);
  std::reverse(items.begin(), items.end());
  if (value.Is(Kind::kGenerator)) return Value::MakeList(std::move(items));
  return ListGenerator(std::move(items), "list_reverseiterator");
}

constexpr Filter kSequenceFilters[] = {
    {"batch", Batch},   {"dictsort", DictSort}, {"first", First},   {"groupby", GroupBy},
    {"items", Items},   {"join", Join},         {"last", Last},     {"list", List},
    {"max", Extreme<true>}, {"min", Extreme<false>}, {"reverse", Reverse}, {"slice", Slice},
    {"sort", Sort},     {"sum", Sum},           {"unique", Unique}};

}  // namespace

std::span<const Filter> SequenceFilters() { return kSequenceFilters; }

}  // namespace baton::tokenizer::jinja
