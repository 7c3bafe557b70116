#include "tokenizer/jinja_globals.h"

#include <ctime>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_ops.h"

namespace baton::tokenizer::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // of Jinja2's sandbox

Value Range(Interpreter&, const CallArgs& args) {
  const BoundArgs bound("range", args, {"", "", ""}, 1);
  const bool only_stop = !bound.Has(1);
  const int64_t start = only_stop ? 0 : bound.Int(0, 0);
  const int64_t stop = bound.Int(only_stop ? 0 : 1, 0);
  const int64_t step = bound.Int(2, 1);
  if (step == 0) Throw(ErrorKind::kValue, "range() arg 3 must not be zero");
  const auto distance = static_cast<__int128>(stop) - start;
  const __int128 stride = step;
  __int128 size = 0;
  if (step > 0 && distance > 0) size = (distance - 1) / stride + 1;
  if (step < 0 && distance < 0) size = (-distance - 1) / -stride + 1;
  if (size > kMaxRange) {
    Throw(ErrorKind::kOverflow,
          "Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", kMaxRange);
  }
  return Value(RangeObject{start, stop, step, static_cast<int64_t>(size)});
}

// The pairs of dict(mapping or pairs, **named).
DictBuilder CollectDict(std::string_view function, const CallArgs& args) {
  DictBuilder dict;
  if (args.positional.size() > 1) {
    Throw(ErrorKind::kType, "{} expected at most 1 argument, got {}", function,
          args.positional.size());
  }
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.IsUndefined()) source.FailUndefined();
    if (source.Is(Kind::kDict)) {
      for (const auto& [key, value] : source.dict().items) dict.Set(key, value);
    } else {
      Iterator it(source);
      for (Value pair; it.Next(&pair);) {
        std::vector<Value> parts = ToVector(pair);
        if (parts.size() != 2) {
          Throw(ErrorKind::kValue,
                "dictionary update sequence element has length {}; 2 is required", parts.size());
        }
        dict.Set(std::move(parts[0]), std::move(parts[1]));
      }
    }
  }
  for (const auto& [name, value] : args.named) dict.Set(Value::MakeString(name), value);
  return dict;
}

Value Dict(Interpreter&, const CallArgs& args) { return CollectDict("dict", args).Build(); }

Value FromKeys(Interpreter&, const CallArgs& args) {
  const BoundArgs bound("fromkeys", args, {"", ""}, 1);
  DictBuilder dict;
  Iterator it(bound[0]);
  for (Value key; it.Next(&key);) dict.Set(key, bound.Has(1) ? bound[1] : Value::MakeNone());
  return dict.Build();
}

Value Namespace(Interpreter& interpreter, const CallArgs& args) {
  const Value items = CollectDict("namespace", args).Build();
  NamespaceObject* object = interpreter.NewNamespace();
  for (const auto& [key, value] : items.dict().items) object->Set(Str(key), value);
  return Value(object);
}

Value RaiseException(Interpreter&, const CallArgs& args) {
  const BoundArgs bound("raise_exception", args, {"message"}, 1);
  throw TemplateError{ErrorKind::kRaised, Str(bound[0])};
}

// Directives that C leaves to the platform, as Python's datetime has them for a time without zone.
std::string PythonDirectives(const std::string& format) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 >= format.size()) {
      out += format[i];
      continue;
    }
    const char directive = format[++i];
    if (directive == 'f') {
      out += "000000";
    } else if (directive != 'z' && directive != 'Z') {
      out += '%';
      out += directive;
    }
  }
  return out;
}

Value StrftimeNow(Interpreter& interpreter, const CallArgs& args) {
  const BoundArgs bound("strftime_now", args, {"format"}, 1);
  std::tm now{};
  if (interpreter.now()) {
    now = *interpreter.now();
    timegm(&now);  // fills in the day of the week and of the year
  } else {
    const std::time_t clock = std::time(nullptr);
    localtime_r(&clock, &now);
  }
  const std::string format = PythonDirectives(bound.Text(0));
  // Directives expand to at most a few dozen bytes each ("%c").
  if (format.size() > 1000) Throw(ErrorKind::kLimit, "a strftime format of more than 1000 bytes");
  std::string out(format.size() * 64 + 1, '\0');
  out.resize(format.empty() ? 0 : std::strftime(out.data(), out.size(), format.c_str(), &now));
  return Value::MakeString(std::move(out));
}

constexpr Function kGlobals[] = {{"range", Range},
                                 {"dict", Dict},
                                 {"namespace", Namespace},
                                 {"raise_exception", RaiseException},
                                 {"strftime_now", StrftimeNow}};

constexpr Function kDictFromKeys = {"fromkeys", FromKeys};

}  // namespace

std::span<const Function> Globals() { return kGlobals; }

const Function& DictFromKeys() { return kDictFromKeys; }

}  // namespace baton::tokenizer::jinja
