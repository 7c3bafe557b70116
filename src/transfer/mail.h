// What engines write into each other's mailbox: one cell per key set, two mails per cell.
//
// Hello: the writer names itself and says how many arrivals it has caused here, all of which have
// landed. Credit: how many arrivals it may cause in all (credits.h). Both name the key set that they
// are about and carry a check, so that a late or half-overwritten mail is recognised and ignored.
#pragma once

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

inline constexpr uint32_t kMailboxCells = 1024;
inline constexpr uint32_t kMailboxCellBytes = 2 * sizeof(Mail);
inline constexpr uint32_t kHelloOffset = 0, kCreditOffset = sizeof(Mail);
inline constexpr uint64_t kMailboxBytes = uint64_t{kMailboxCells} * kMailboxCellBytes;

constexpr uint64_t MailTag(uint32_t key_set, uint8_t generation) {
  return uint64_t{key_set} << 8 | generation;
}

constexpr uint64_t MailCheck(const Mail& mail) {
  uint64_t hash = 0x9E3779B97F4A7C15ull;
  for (const uint64_t part : {mail.epoch, mail.value, mail.blocks, mail.tag}) {
    hash = (hash ^ part) * 0xBF58476D1CE4E5B9ull;
    hash ^= hash >> 29;
  }
  return hash;
}

constexpr Mail MakeMail(uint64_t epoch, uint64_t value, uint64_t tag, uint64_t blocks = 0) {
  Mail mail{.epoch = epoch, .value = value, .blocks = blocks, .tag = tag};
  mail.check = MailCheck(mail);
  return mail;
}

constexpr bool IsGenuine(const Mail& mail) { return mail.epoch && mail.check == MailCheck(mail); }

}  // namespace baton::transfer
