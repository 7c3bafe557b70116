#include "tokenizer/jinja_budget.h"

#include "tokenizer/jinja_error.h"

namespace baton::tokenizer::jinja {
namespace {

thread_local Budget* current_budget = nullptr;

}  // namespace

Budget* Budget::Current() { return current_budget; }

void Budget::FailSteps() {
  Throw(ErrorKind::kLimit, "the template does more than {} steps of work", limits_.steps);
}

void Budget::FailMemory(int64_t bytes) {
  live_bytes_ -= bytes;  // the object is never made, so nothing will release it
  Throw(ErrorKind::kLimit, "the template needs more than {} MiB of memory",
        limits_.live_bytes >> 20);
}

BudgetScope::BudgetScope(Budget* budget) : previous_(current_budget) { current_budget = budget; }

BudgetScope::~BudgetScope() { current_budget = previous_; }

void ChargeWork(size_t bytes) {
  if (Budget* budget = Budget::Current()) budget->Step(static_cast<int64_t>(bytes / 32));
}

void CheckStringSize(uint64_t bytes) {
  const Budget* budget = Budget::Current();
  const uint64_t limit = budget ? budget->limits().output_bytes : Limits().output_bytes;
  if (bytes > limit) Throw(ErrorKind::kLimit, "a string of more than {} MiB", limit >> 20);
}

void CheckListSize(uint64_t items) {
  constexpr uint64_t kMaxItems = 4'000'000;
  if (items > kMaxItems) Throw(ErrorKind::kLimit, "a list of more than {} items", kMaxItems);
}

}  // namespace baton::tokenizer::jinja
