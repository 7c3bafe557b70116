#include "tokenizer/normalize.h"

#include <algorithm>

#include <utf8proc.h>

#include "tokenizer/utf8.h"

namespace baton::tokenizer {
namespace {

// Nothing below is changed by, or takes part in, a composition (NFC, Unicode 15 DerivedNormalization).
constexpr unsigned char kFirstLeadOfU300 = 0xCC;

utf8proc_option_t DecomposeOptions(NormalForm form) {
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                        (compatible ? UTF8PROC_COMPAT : 0));
}

int CombiningClass(utf8proc_int32_t point) {
  return utf8proc_get_property(point)->combining_class;
}

// Canonical ordering (UAX 15): each run of marks is sorted by combining class, stably. utf8proc's
// own loop does this by exchanging neighbours, which is quadratic in the length of a run.
void OrderMarks(std::vector<utf8proc_int32_t>& points) {
  const auto by_class = [](utf8proc_int32_t a, utf8proc_int32_t b) {
    return CombiningClass(a) < CombiningClass(b);
  };
  for (auto at = points.begin(); at != points.end();) {
    if (CombiningClass(*at) == 0) {
      ++at;
      continue;
    }
    const auto end =
        std::find_if(at, points.end(), [](utf8proc_int32_t p) { return CombiningClass(p) == 0; });
    std::stable_sort(at, end, by_class);
    at = end;
  }
}

Status Decompose(std::string_view text, NormalForm form, std::vector<utf8proc_int32_t>& points) {
  const utf8proc_option_t options = DecomposeOptions(form);
  constexpr int kMaxExpansion = 32;  // longest decomposition: 18 (U+FDFA, compatibility)
  utf8proc_int32_t buffer[kMaxExpansion];
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    int boundary = 0;
    const auto point = static_cast<utf8proc_int32_t>(NextCodePoint(text, at));
    const auto count =
        utf8proc_decompose_char(point, buffer, kMaxExpansion, options, &boundary);
    if (count < 0 || count > kMaxExpansion)
      return Error(Code::kInternal, "utf8proc cannot decompose U+{:04X}", point);
    points.insert(points.end(), buffer, buffer + count);
  }
  return Status::Ok();
}

}  // namespace

bool IsSurelyNormal(std::string_view text, NormalForm form) {
  const auto limit = form == NormalForm::kNfc ? kFirstLeadOfU300 : static_cast<unsigned char>(0x80);
  return std::all_of(text.begin(), text.end(), [&](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0xC0 ? byte < 0x80 || form == NormalForm::kNfc : byte < limit;
  });
}

Result<std::string> Normalize(std::string_view text, NormalForm form) {
  if (IsSurelyNormal(text, form)) return std::string(text);
  std::vector<utf8proc_int32_t> points;
  if (Status s = Decompose(text, form, points); !s.ok()) return s;
  OrderMarks(points);
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) {
    const auto count = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(points.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (count < 0) return Error(Code::kInternal, "utf8proc: {}", utf8proc_errmsg(count));
    points.resize(static_cast<size_t>(count));
  }
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t point : points) AppendUtf8(static_cast<char32_t>(point), out);
  return out;
}

}  // namespace baton::tokenizer
