#include "tokenizer/normalize.h"

#include <algorithm>
#include <iterator>

#include <utf8proc.h>

#include "tokenizer/utf8.h"

namespace baton::tokenizer {
namespace {

// Nothing below is changed by, or takes part in, a composition (NFC, Unicode 15 DerivedNormalization).
constexpr unsigned char kFirstLeadOfU300 = 0xCC;

struct Range {
  utf8proc_int32_t first, last;
};
// Combining marks of Unicode 10 to 15. The tokenizers that models were trained with normalize by
// Unicode 9, where these have no combining class; so must we, or ids differ. (Found by comparing
// utf8proc's classes with what Hugging Face tokenizers 0.23 reorders.)
constexpr Range kNewMarks[] = {
    {0x7FD, 0x7FD}, {0x898, 0x89F}, {0x8CA, 0x8D3}, {0x9FE, 0x9FE}, {0xC3C, 0xC3C},
    {0xD3B, 0xD3C}, {0xEBA, 0xEBA}, {0x1715, 0x1715}, {0x1ABF, 0x1ACE}, {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
    {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};
// The only canonical composition that is newer: U+11938 = U+11935 U+11930.
constexpr utf8proc_int32_t kNewComposite = 0x11938, kNewCompositeTail = 0x11930;
// One below the first trailing jamo. It composes with nothing, but utf8proc 2.8 swallows it behind
// a Hangul syllable.
constexpr utf8proc_int32_t kBelowTrailingJamo = 0x11A7;

bool IsNewMark(utf8proc_int32_t point) {
  const auto* range = std::lower_bound(std::begin(kNewMarks), std::end(kNewMarks), point,
                                       [](Range r, utf8proc_int32_t p) { return r.last < p; });
  return range != std::end(kNewMarks) && point >= range->first;
}

utf8proc_option_t DecomposeOptions(NormalForm form) {
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                        (compatible ? UTF8PROC_COMPAT : 0));
}

int CombiningClass(utf8proc_int32_t point) {
  const int by_today = utf8proc_get_property(point)->combining_class;
  return by_today == 0 || IsNewMark(point) ? 0 : by_today;
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
    if (point == kNewComposite) {
      points.push_back(point);
      continue;
    }
    const auto count =
        utf8proc_decompose_char(point, buffer, kMaxExpansion, options, &boundary);
    if (count < 0 || count > kMaxExpansion)
      return Error(Code::kInternal, "utf8proc cannot decompose U+{:04X}", point);
    points.insert(points.end(), buffer, buffer + count);
  }
  return Status::Ok();
}

// Whether `point` composes with nothing before it and parts what is on its two sides.
bool IsBarrier(utf8proc_int32_t point) {
  return point == kBelowTrailingJamo || point == kNewCompositeTail || IsNewMark(point);
}

// Composes in place, stretch by stretch between barriers.
Status Compose(std::vector<utf8proc_int32_t>& points) {
  size_t out = 0;
  for (size_t begin = 0, end; begin < points.size(); begin = end) {
    end = begin + 1;
    while (end < points.size() && !IsBarrier(points[end])) ++end;
    const auto count = utf8proc_normalize_utf32(
        points.data() + begin, static_cast<utf8proc_ssize_t>(end - begin),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (count < 0) return Error(Code::kInternal, "utf8proc: {}", utf8proc_errmsg(count));
    std::copy_n(points.begin() + static_cast<std::ptrdiff_t>(begin), count,
                points.begin() + static_cast<std::ptrdiff_t>(out));
    out += static_cast<size_t>(count);
  }
  points.resize(out);
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
    if (Status s = Compose(points); !s.ok()) return s;
  }
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t point : points) AppendUtf8(static_cast<char32_t>(point), out);
  return out;
}

}  // namespace baton::tokenizer
