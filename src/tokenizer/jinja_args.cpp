#include "tokenizer/jinja_args.h"

#include <algorithm>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_ops.h"

namespace baton::tokenizer::jinja {

BoundArgs::BoundArgs(std::string_view function, const CallArgs& args,
                     std::initializer_list<std::string_view> names, size_t required)
    : function_(function), values_(names.size(), nullptr) {
  if (args.positional.size() > names.size()) {
    Throw(ErrorKind::kType, "{}() takes at most {} argument(s) ({} given)", function, names.size(),
          args.positional.size());
  }
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto* found = std::find(names.begin(), names.end(), name);
    if (found == names.end() || name.empty()) {
      Throw(ErrorKind::kType, "{}() got an unexpected keyword argument '{}'", function, name);
    }
    const auto i = static_cast<size_t>(found - names.begin());
    if (values_[i]) {
      Throw(ErrorKind::kType, "{}() got multiple values for argument '{}'", function, name);
    }
    values_[i] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) {
      Throw(ErrorKind::kType, "{}() misses required argument {}", function, i + 1);
    }
  }
}

bool BoundArgs::Bool(size_t i, bool fallback) const {
  return values_[i] ? Truthy(*values_[i]) : fallback;
}

int64_t BoundArgs::Int(size_t i, int64_t fallback) const {
  return values_[i] ? ToIndex(*values_[i]) : fallback;
}

std::optional<int64_t> BoundArgs::OptionalInt(size_t i) const {
  if (!values_[i] || values_[i]->IsNone()) return std::nullopt;
  return ToIndex(*values_[i]);
}

const std::string& BoundArgs::Text(size_t i) const {
  const Value& value = *values_[i];
  if (!value.IsString()) {
    Throw(ErrorKind::kType, "{}() argument {} must be str, not {}", function_, i + 1,
          TypeName(value));
  }
  return value.text();
}

}  // namespace baton::tokenizer::jinja
