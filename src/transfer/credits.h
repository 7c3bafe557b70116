// Credits: how many arrivals each writer may cause here, so that the fabric's completion queue can
// never overrun, however many writers there are.
//
// Every key set handed out is an account. A writer may cause `granted` arrivals in all; it learns
// the first ones from the description and more through its mailbox as we take arrivals off the
// queue (`consumed`). What an account may still cause is granted - consumed; over all accounts,
// with a reserve for mails, that never exceeds the queue. Each keeps a least share, so that none
// starves while others idle on theirs.
//
// Consumption can be missed (a write that failed, a stray that nobody can attribute). The writer's
// hello mends it: it tells how many have landed, and once the queue was seen empty after it all of
// these are consumed.
// Thread: the worker.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "transfer/mail.h"

namespace baton::transfer {

class CreditBook {
 public:
  static constexpr uint32_t kUnlimited = ~0u;
  // Arrivals outside of the count, per writer: a few hellos until we answer, credit mails (at most
  // three can wait unread, as each follows the use of half a share, and one per manifest block),
  // and the completions of our own mails. Rails bring mails about repetition, and probes.
  static constexpr uint32_t kMails = 16, kRailMails = 8;
  static constexpr uint32_t kLeast = 8, kFirst = 32, kMost = 512;

  // `entries` of the completion queue (0: it has no bound), of which our own writes may take `own`.
  CreditBook(uint32_t entries, uint32_t own, uint32_t accounts = kMailboxCells, bool rails = false)
      : unlimited_(entries == 0),
        budget_(entries > own ? entries - own : 0),
        mails_(rails ? kMails + kRailMails : kMails),
        accounts_(accounts) {}

  bool unlimited() const { return unlimited_; }
  bool HasRoom() const { return unlimited_ || held_ + kLeast + mails_ <= budget_; }
  // Writers that the queue has room for.
  uint32_t most_accounts() const { return budget_ / (kLeast + mails_); }

  // The first grant of a key set, for its description. Needs HasRoom().
  uint32_t Open(uint32_t set) {
    if (unlimited_) return kUnlimited;
    Account& account = accounts_[set];
    account = {.open = true};
    ++open_;
    held_ += kLeast + mails_;
    Grant(account, kFirst);
    return static_cast<uint32_t>(account.granted);
  }

  // Its keys are revoked: what is in the queue by now is all that can come.
  void Close(uint32_t set) {
    Account& account = accounts_[set];
    if (!account.open) return;
    leaving_ += Held(account);
    account.open = false;
    --open_;
  }

  void Consume(uint32_t set) {
    Account& account = accounts_[set];
    if (!account.open || account.consumed >= account.granted) return;
    const uint32_t before = Held(account);
    ++account.consumed;
    held_ -= before - Held(account);
  }

  // A hello: `posted` arrivals of the account have landed or never will.
  void NoteLanded(uint32_t set, uint64_t posted) {
    Account& account = accounts_[set];
    if (!account.open) return;
    account.landed = std::max(account.landed, posted);
    to_settle_.push_back(set);
  }

  // The queue was read until it was empty, and everything read before was applied.
  void OnQueueEmpty() {
    if (leaving_) held_ -= leaving_;
    leaving_ = 0;
    for (const uint32_t set : to_settle_) {
      Account& account = accounts_[set];
      if (!account.open) continue;
      const uint32_t before = Held(account);
      account.consumed = std::max(account.consumed, std::min(account.landed, account.granted));
      held_ -= before - Held(account);
    }
    to_settle_.clear();
  }

  // What to tell the account's writer now; 0 when that can wait. `anyway`: it asked.
  uint64_t TopUp(uint32_t set, bool anyway) {
    if (unlimited_) return anyway ? kUnlimited : 0;
    Account& account = accounts_[set];
    if (!account.open) return 0;
    const uint32_t share = std::clamp<uint32_t>(budget_ / (open_ + 1), kLeast + mails_, kMost) - mails_;
    const uint64_t left = account.granted - account.consumed;
    if (!anyway && left > share / 2) return 0;
    const uint64_t before = account.granted;
    if (left < share) Grant(account, static_cast<uint32_t>(share - left));
    return anyway || account.granted > before ? account.granted : 0;
  }

  // What accounts may cause in all, mails included.
  uint32_t held() const { return held_; }

 private:
  struct Account {
    bool open = false;
    uint64_t granted = 0, consumed = 0, landed = 0;
  };

  uint32_t Held(const Account& account) const {
    return std::max(kLeast, static_cast<uint32_t>(account.granted - account.consumed)) + mails_;
  }

  // Up to `more`, as far as there is room.
  void Grant(Account& account, uint32_t more) {
    const uint32_t before = Held(account);
    const auto left = static_cast<uint32_t>(account.granted - account.consumed);
    const uint32_t own = before - mails_ - left;  // kept for it whatever others do
    account.granted += std::min(more, own + (budget_ > held_ ? budget_ - held_ : 0));
    held_ += Held(account) - before;
  }

  const bool unlimited_;
  const uint32_t budget_, mails_;
  uint32_t held_ = 0, leaving_ = 0, open_ = 0;
  std::vector<Account> accounts_;     // by key set
  std::vector<uint32_t> to_settle_;
};

}  // namespace baton::transfer
