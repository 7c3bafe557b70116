// What one parse or render may use. Value constructors charge the budget that is current on their
// thread, so no code path can forget to; a render installs its own with BudgetScope.
//
// Invariant: objects that a render creates die before its BudgetScope ends (constants of the parsed
// template are made outside of any scope and are not charged).
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton::tokenizer::jinja {

struct Limits {
  int64_t steps = 50'000'000;              // evaluated nodes, plus one per 32 bytes touched
  int64_t live_bytes = int64_t{256} << 20; // strings, lists, dicts and output alive at once
  size_t output_bytes = size_t{64} << 20;  // rendered text, and any one string
  int value_depth = 200;                   // nesting of lists and dicts
  int eval_depth = 1200;                   // nested statements, expressions and macro calls
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits), steps_left_(limits.steps) {}

  // The budget of the render that runs on this thread, or nullptr.
  static Budget* Current();

  const Limits& limits() const { return limits_; }

  // Throw kLimit when spent.
  void Step(int64_t count = 1) {
    steps_left_ -= count;
    if (steps_left_ < 0) [[unlikely]] FailSteps();
  }
  void Allocate(int64_t bytes) {
    Step(1 + bytes / 32);
    live_bytes_ += bytes;
    if (live_bytes_ > limits_.live_bytes) [[unlikely]] FailMemory(bytes);
  }
  void Release(int64_t bytes) { live_bytes_ -= bytes; }

 private:
  friend class BudgetScope;
  [[noreturn]] void FailSteps();
  [[noreturn]] void FailMemory(int64_t bytes);

  Limits limits_;
  int64_t steps_left_;
  int64_t live_bytes_ = 0;
};

class BudgetScope {
 public:
  explicit BudgetScope(Budget* budget);
  ~BudgetScope();
  BudgetScope(const BudgetScope&) = delete;
  BudgetScope& operator=(const BudgetScope&) = delete;

 private:
  Budget* previous_;
};

// For code that scans `bytes` without creating anything.
void ChargeWork(size_t bytes);
// Before building a string of `bytes` or a list of `items`: throws kLimit when it would be too
// long.
void CheckStringSize(uint64_t bytes);
void CheckListSize(uint64_t items);

// A byte count charged to the current budget for as long as this object lives.
class Charge {
 public:
  explicit Charge(size_t bytes) : bytes_(static_cast<int64_t>(bytes)), budget_(Budget::Current()) {
    if (budget_) budget_->Allocate(bytes_);
  }
  ~Charge() {
    if (budget_) budget_->Release(bytes_);
  }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;

 private:
  int64_t bytes_;
  Budget* budget_;
};

}  // namespace baton::tokenizer::jinja
