#include "tokenizer/pretokenize.h"

#include <algorithm>
#include <chrono>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/unicode_additions.h"
#include "tokenizer/utf8.h"

namespace baton::tokenizer {
namespace {

// Real patterns split 50 MB and more in a second; only a hostile one can meet this.
constexpr std::chrono::seconds kSplitDeadline{20};
constexpr size_t kMatchesPerClockRead = 1024;

using Parts = std::vector<std::pair<Span, bool>>;  // a piece cut up; true: matched

// Cuts one piece after another by one pattern, under a common deadline.
class PieceCutter {
 public:
  explicit PieceCutter(const Regex& regex)
      : matcher_(regex), deadline_(std::chrono::steady_clock::now() + kSplitDeadline) {}

  // Calls `part(span within piece, matched)` for every match and every gap, empty matches included.
  template <typename Part>
  Status Cut(std::string_view piece, Part part) {
    size_t done = 0, from = 0;
    std::optional<size_t> last_end;
    while (from <= piece.size()) {
      if (++matches_ % kMatchesPerClockRead == 0 && std::chrono::steady_clock::now() > deadline_)
        return Error(Code::kDeadlineExceeded, "splitting the text by its pattern takes too long");
      auto found = matcher_.Find(piece, from);
      if (!found.ok()) return found.status();
      if (!found->has_value()) break;
      const Span match = **found;
      if (match.begin == match.end && last_end == match.begin) {
        // An empty match right behind the last one is the same place again.
        if (from == piece.size()) break;
        from += Utf8Length(piece[from]);
        continue;
      }
      if (done < match.begin) part(Span{done, match.begin}, false);
      part(match, true);
      done = from = match.end;
      last_end = match.end;
    }
    if (done < piece.size()) part(Span{done, piece.size()}, false);
    return Status::Ok();
  }

 private:
  RegexMatcher matcher_;
  std::chrono::steady_clock::time_point deadline_;
  size_t matches_ = 0;
};

// Joins parts of one piece as `behavior` says and appends those that stay, moved by `offset`.
void AppendJoined(Parts& parts, SplitBehavior behavior, size_t offset, std::vector<Span>& out) {
  const size_t first = out.size();
  const auto push = [&](Span s) { out.push_back({s.begin + offset, s.end + offset}); };
  bool previous = false;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for (const auto& [span, matched] : parts) push(span);
      break;
    case SplitBehavior::kRemoved:
      for (const auto& [span, matched] : parts)
        if (!matched) push(span);
      break;
    case SplitBehavior::kContiguous:
      for (const auto& [span, matched] : parts) {
        if (out.size() > first && matched == previous) {
          out.back().end = span.end + offset;
        } else {
          push(span);
        }
        previous = matched;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const auto& [span, matched] : parts) {
        if (matched && !previous && out.size() > first) {
          out.back().end = span.end + offset;
        } else {
          push(span);
        }
        previous = matched;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->second && !previous && out.size() > first) {
          out.back().begin = part->first.begin + offset;
        } else {
          push(part->first);
        }
        previous = part->second;
      }
      std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
      break;
  }
  out.erase(std::remove_if(out.begin() + static_cast<std::ptrdiff_t>(first), out.end(),
                           [](const Span& s) { return s.begin == s.end; }),
            out.end());
}

Status ApplySplit(const PretokenizeStep& step, std::string_view match_text, PieceBuffer& buffer) {
  PieceCutter cutter(*step.regex);
  buffer.next.clear();
  const bool simple = step.behavior == SplitBehavior::kIsolated;
  for (const Span piece : buffer.pieces) {
    const std::string_view text = match_text.substr(piece.begin, piece.end - piece.begin);
    Status status;
    if (simple) {  // the hot path: gaps and matches alike are pieces
      status = cutter.Cut(text, [&](Span s, bool) {
        if (s.begin < s.end) buffer.next.push_back({s.begin + piece.begin, s.end + piece.begin});
      });
    } else {
      buffer.parts.clear();
      status = cutter.Cut(text, [&](Span s, bool matched) {
        buffer.parts.emplace_back(s, matched != step.invert);
      });
      AppendJoined(buffer.parts, step.behavior, piece.begin, buffer.next);
    }
    if (!status.ok()) return status;
  }
  buffer.pieces.swap(buffer.next);
  return Status::Ok();
}

// Rewrites every piece by `edit(piece, text out)` into buffer.edited.
template <typename Edit>
void EditPieces(PieceBuffer& buffer, Edit edit) {
  std::string text;
  text.reserve(buffer.text.size() + buffer.pieces.size());
  for (Span& piece : buffer.pieces) {
    const size_t begin = text.size();
    edit(buffer.text.substr(piece.begin, piece.end - piece.begin), text);
    piece = {begin, text.size()};
  }
  buffer.edited = std::move(text);
  buffer.text = buffer.edited;
}

}  // namespace

Status Pretokenizer::Split(std::string_view text, PieceBuffer& buffer) const {
  buffer.text = text;
  buffer.pieces.clear();
  if (text.empty()) return Status::Ok();
  buffer.pieces.push_back({0, text.size()});

  std::string_view match_text = ReplaceNewCharacters(text, buffer.stand_in) ? buffer.stand_in : text;
  bool in_alphabet = false;
  for (const PretokenizeStep& step : steps_) {
    if (step.kind == PretokenizeStep::Kind::kSplit) {
      if (Status s = ApplySplit(step, match_text, buffer); !s.ok()) return s;
      continue;
    }
    if (step.kind == PretokenizeStep::Kind::kPrefixSpace) {
      EditPieces(buffer, [](std::string_view piece, std::string& out) {
        if (piece[0] != ' ') out += ' ';
        out += piece;
      });
    } else {
      EditPieces(buffer,
                 [](std::string_view piece, std::string& out) { out += ToAlphabet(piece); });
      in_alphabet = true;
    }
    match_text =
        ReplaceNewCharacters(buffer.text, buffer.stand_in) ? buffer.stand_in : buffer.text;
  }
  if (in_alphabet) {
    EditPieces(buffer, [](std::string_view piece, std::string& out) {
      // Pieces are cut between characters of the alphabet, so each is bytes again.
      out += FromAlphabet(piece).value_or("");
    });
  }
  return Status::Ok();
}

}  // namespace baton::tokenizer
