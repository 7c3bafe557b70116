// What engines write into each other's mailbox: one cell per key set, four mails per cell.
//
// Hello: the writer names itself and says how many arrivals it has caused here, all of which have
// landed. Credit: how many arrivals it may cause in all (credits.h). Repeat: writes of these sends are
// in doubt, fence them so that they can be repeated; consent: it is done (engine_repeat.cpp). All name
// the key set that they are about and carry a check, so that a late or half-overwritten mail is
// recognised and ignored.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace baton::transfer {

struct Mail {
  uint64_t epoch = 0;  // of the writer
  uint64_t value = 0;
  uint64_t blocks = 0;  // credit: manifest blocks that may be overwritten (checksums.h)
  uint64_t tag = 0;    // key set << 8 | its generation
  uint64_t check = 0;
};

struct RepeatMail {
  static constexpr uint32_t kSends = 32;
  uint64_t epoch = 0;
  uint64_t tag = 0;    // as Mail, of the key set that the sender writes with
  uint64_t fence = 0;  // number of the fence that it asks for: 1, 2 ...
  uint64_t count = 0;
  uint64_t ways[4] = {};  // on which they were posted (fabric.h)
  // Of each send in doubt: repetition to come << 28 | slot << 8 | generation.
  uint64_t sends[kSends] = {};
  uint64_t check = 0;
};

// What became of the slot of a send in doubt.
enum class Verdict : uint8_t {
  kGone = 0,   // failed, cancelled or another's by now
  kAgain = 1,  // counts from nothing: write all of it again
  kDone = 2,   // everything had arrived
};

struct ConsentMail {
  uint64_t epoch = 0;
  uint64_t tag = 0;    // as RepeatMail
  uint64_t fence = 0;
  uint64_t verdicts = 0;  // two bits for each send, in the order of the question
  uint64_t check = 0;
};

inline constexpr uint32_t kMailboxCells = 1024;
inline constexpr uint32_t kHelloOffset = 0, kCreditOffset = sizeof(Mail),
                          kRepeatOffset = 2 * sizeof(Mail),
                          kConsentOffset = kRepeatOffset + sizeof(RepeatMail),
                          kMailboxCellBytes = kConsentOffset + sizeof(ConsentMail);
inline constexpr uint64_t kMailboxBytes = uint64_t{kMailboxCells} * kMailboxCellBytes;

// A mark's bytes say nothing: its immediate is all. It is fenced like data, so its place has a key of
// its own beside the mailbox.
inline constexpr uint32_t kMarkBytes = 8;

constexpr uint64_t MailTag(uint32_t key_set, uint8_t generation) {
  return uint64_t{key_set} << 8 | generation;
}

// Of all words but the last, which holds it.
template <typename AnyMail>
constexpr uint64_t MailCheck(const AnyMail& mail) {
  const auto words = std::bit_cast<std::array<uint64_t, sizeof(AnyMail) / sizeof(uint64_t)>>(mail);
  uint64_t hash = 0x9E3779B97F4A7C15ull;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    hash = (hash ^ words[i]) * 0xBF58476D1CE4E5B9ull;
    hash ^= hash >> 29;
  }
  return hash;
}

constexpr Mail MakeMail(uint64_t epoch, uint64_t value, uint64_t tag, uint64_t blocks = 0) {
  Mail mail{.epoch = epoch, .value = value, .blocks = blocks, .tag = tag};
  mail.check = MailCheck(mail);
  return mail;
}

template <typename AnyMail>
constexpr bool IsGenuine(const AnyMail& mail) { return mail.epoch && mail.check == MailCheck(mail); }

}  // namespace baton::transfer
