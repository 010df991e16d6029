#include "runtime/schedule/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "runtime/core/available_memory.h"
#include "runtime/core/size_text.h"
#include "runtime/schedule/ms_since.h"
#include "runtime/schedule/scheduler_state.h"
#include "runtime/schedule/slot_file.h"

namespace thermocline {
namespace {

[[noreturn]] void FailSlot(int32_t n_slots, int32_t slot) {
  throw Error({.what = "the slot",
               .expected = fmt::format("0 to {}", n_slots - 1),
               .found = std::to_string(slot)});
}

void CheckRequest(const Engine& engine, int32_t n_slots, const Request& request) {
  const int64_t vocab_size = engine.config().vocab_size;
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  if (request.prompt.empty()) {
    throw Error({.what = "the prompt", .expected = "at least one token", .found = "none"});
  }
  for (const int32_t id : request.prompt) {
    if (id >= 0 && id < vocab_size) continue;
    throw Error({.what = "a token of the prompt",
                 .expected = fmt::format("0 to {}", vocab_size - 1),
                 .found = std::to_string(id)});
  }
  const bool embeds = request.kind == RequestKind::kEmbed;
  if (n_prompt + (embeds ? 0 : 1) > engine.context_tokens()) {
    throw PromptTooLong(n_prompt, engine.context_tokens());
  }
  if (request.n < 1) {
    throw Error({.what = "the number of continuations",
                 .expected = "at least 1",
                 .found = std::to_string(request.n)});
  }
  if (request.slot < -1 || request.slot >= n_slots) FailSlot(n_slots, request.slot);
  Validate(request.sampler);
}

std::unique_ptr<HostPages> MakeHostPages(Engine& engine, const ScheduleOptions& options) {
  if (options.kv_host_bytes == 0) return nullptr;
  const std::optional<AvailableMemory> available = QueryAvailableMemory();
  if (available && options.kv_host_bytes > available->n_bytes) {
    throw Error({.what = "memory for pages of the KV cache outside it",
                 .expected = fmt::format("at most the {} that {} has left",
                                         FormatBytes(available->n_bytes), available->limited_by),
                 .found = FormatBytes(options.kv_host_bytes),
                 .settings = {{Setting::kKvHost}}});
  }
  return std::make_unique<HostPages>(engine.cache(), options.kv_host_bytes);
}

}  // namespace

PromptTooLong::PromptTooLong(int64_t n_prompt, int64_t n_context)
    : Error({.what = "the prompt is longer than the context",
             .expected = fmt::format("at most {} tokens", n_context - 1),
             .found = std::to_string(n_prompt),
             .hint = "shorten it or raise the context size",
             .settings = {{Setting::kContextSize}}}),
      n_prompt_(n_prompt),
      n_context_(n_context) {}

Scheduler::State::State(Engine& engine, const ScheduleOptions& options)
    : engine_(engine),
      options_(options),
      kv_(engine.sequences()),
      host_pages_(MakeHostPages(engine, options)),
      prefixes_(kv_, host_pages_.get()),
      slots_(kv_, options.n_slots),
      planned_pages_(kv_.n_classes()) {
  engine_.Reset();
}

Scheduler::State::~State() { CancelAll(); }

void Scheduler::State::Check(const Request& request) const {
  CheckRequest(engine_, slots_.size(), request);
}

void Scheduler::State::Add(RequestId id, Request request,
                           std::shared_ptr<RequestListener> listener) {
  Check(request);
  const int32_t n = request.kind == RequestKind::kEmbed ? 1 : request.n;
  const auto n_idle = slots_.size() - static_cast<int64_t>(running_.size());
  if (options_.max_waiting > 0 &&
      static_cast<int64_t>(waiting_.size()) + n > options_.max_waiting + n_idle) {
    throw QueueFull({.what = "too many requests wait",
                     .expected = fmt::format("at most {}", options_.max_waiting),
                     .found = std::to_string(waiting_.size())});
  }
  const auto shared = std::make_shared<SharedRequest>();
  shared->id = id;
  shared->request = std::move(request);
  shared->listener = std::move(listener);
  ++stats_.n_requests;
  for (int32_t index = 0; index < n; ++index) {
    Wait({std::make_unique<TextRun>(shared, index, next_order_++, engine_.tokenizer()), index > 0});
  }
}

void Scheduler::State::Wait(Entry entry) {
  const auto younger = std::ranges::find_if(
      waiting_, [&](const Entry& other) { return other.text->order() > entry.text->order(); });
  waiting_.insert(younger, std::move(entry));
}

void Scheduler::State::LetSiblingsGo(RequestId id) {
  for (Entry& entry : waiting_) {
    if (entry.text->id() == id) entry.waits_for_first = false;
  }
}

void Scheduler::State::EndWaiting(Entries::iterator waiting, EndReason reason,
                                  const std::string& error) {
  const Entry entry = std::move(*waiting);
  waiting_.erase(waiting);
  ++(reason == EndReason::kCancelled ? stats_.n_cancelled : stats_.n_failed);
  entry.text->End(reason, error);
}

void Scheduler::State::Finish(Entries::iterator running, EndReason reason,
                              const std::string& error) {
  const Entry entry = std::move(*running);
  running_.erase(running);
  const TextRun& text = *entry.text;
  if (options_.speculator != nullptr) options_.speculator->Forget(text.stats().slot);
  Slot& slot = SlotOf(text);
  slot.ids.assign(text.ids().begin(), text.ids().begin() + FedOf(text));
  slot.busy = false;
  slot.last_use = prefixes_.Now();
  if (!options_.keeps_prefixes) slots_.Empty(text.stats().slot);
  if (text.index() == 0) LetSiblingsGo(text.id());
  if (reason == EndReason::kCancelled) {
    ++stats_.n_cancelled;
  } else {
    ++(reason == EndReason::kFailed ? stats_.n_failed : stats_.n_ended);
  }
  entry.text->End(reason, error);
}

void Scheduler::State::Cancel(RequestId id) {
  for (auto entry = waiting_.begin(); entry != waiting_.end();) {
    const auto next = std::next(entry);
    if (entry->text->id() == id) EndWaiting(entry, EndReason::kCancelled);
    entry = next;
  }
  for (auto entry = running_.begin(); entry != running_.end();) {
    const auto next = std::next(entry);
    if (entry->text->id() == id) Finish(entry, EndReason::kCancelled);
    entry = next;
  }
}

void Scheduler::State::CancelAll() {
  while (!waiting_.empty()) EndWaiting(waiting_.begin(), EndReason::kCancelled);
  while (!running_.empty()) Finish(running_.begin(), EndReason::kCancelled);
}

Slot& Scheduler::State::SlotAt(int32_t slot) {
  if (slot < 0 || slot >= slots_.size()) FailSlot(slots_.size(), slot);
  return slots_.at(slot);
}

Slot& Scheduler::State::IdleSlot(int32_t slot) {
  Slot& found = SlotAt(slot);
  if (!found.busy) return found;
  throw Error({.what = "the slot", .expected = "an idle one", .found = "one that is at work"});
}

int64_t Scheduler::State::Erase(int32_t slot) {
  Slot& held = IdleSlot(slot);
  const std::vector<int32_t> ids = held.ids;
  const TextKind kind = held.kind;
  slots_.Empty(slot);
  prefixes_.Forget(kind, ids);
  return static_cast<int64_t>(ids.size());
}

SlotFileResult Scheduler::State::Save(int32_t slot, const std::string& path) {
  const auto started = std::chrono::steady_clock::now();
  const Slot& held = IdleSlot(slot);
  if (held.sequence < 0 || held.ids.empty()) {
    throw Error({.what = "the slot", .expected = "one that holds tokens", .found = "an empty one"});
  }
  const uint64_t n_bytes = WriteSlotFile(engine_, held.sequence, held.ids, held.kind, path);
  return {static_cast<int64_t>(held.ids.size()), n_bytes, MsSince(started)};
}

SlotFileResult Scheduler::State::Restore(int32_t slot, const std::string& path) {
  const auto started = std::chrono::steady_clock::now();
  Slot& held = IdleSlot(slot);
  const SlotFile file(engine_, path);
  slots_.Empty(slot);
  for (size_t c = 0; c < kv_.n_classes(); ++c) {
    while (kv_.pool(c).n_free() < file.n_pages(c) && DropOldest(c)) {
    }
  }
  held.sequence = file.Load(engine_);  // throws where those who run have left too little
  held.ids = file.ids();
  held.kind = file.kind();
  held.from_file = true;
  held.last_use = prefixes_.Now();
  return {static_cast<int64_t>(held.ids.size()), file.n_bytes(), MsSince(started)};
}

std::vector<SlotState> Scheduler::State::SlotStates() const {
  std::vector<SlotState> states;
  for (int32_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_.at(i);
    SlotState& state = states.emplace_back();
    state.slot = i;
    state.busy = slot.busy;
    state.request = slot.request;
    state.index = slot.index;
    state.n_tokens = slot.sequence < 0 ? 0 : kv_.length(slot.sequence);
    if (!slot.busy) continue;
    for (const Entry& entry : running_) {
      if (entry.text->stats().slot == i) state.stats = entry.text->stats();
    }
  }
  return states;
}

ScheduleStats Scheduler::State::Stats() const {
  ScheduleStats stats = stats_;
  stats.n_running = static_cast<int64_t>(running_.size());
  stats.n_waiting = static_cast<int64_t>(waiting_.size());
  for (size_t c = 0; c < kv_.n_classes(); ++c) {
    const KvPagePool& pool = kv_.pool(c);
    stats.pages.push_back({pool.n_pages(), pool.n_free(), prefixes_.n_kept(c)});
  }
  if (host_pages_ != nullptr) stats.host_pages = host_pages_->counts();
  stats.kv_bytes = engine_.executor().kv_bytes();
  stats.used_bytes = engine_.UsedBytes();
  if (options_.speculator != nullptr) stats.speculation = options_.speculator->stats();
  stats.neurons = engine_.executor().counts();
  return stats;
}

Scheduler::Scheduler(Engine& engine, const ScheduleOptions& options) {
  const int64_t most = engine.model().options().n_sequences;
  if (options.n_slots < 1 || options.n_slots > most) {
    throw Error({.what = "the number of texts at a time",
                 .expected = fmt::format("1 to {}", most),
                 .found = std::to_string(options.n_slots),
                 .settings = {{Setting::kSequences}}});
  }
  CHECK(options.speculator == nullptr ||
        options.speculator->options().max_rows <= engine.model().options().drafted_rows);
  if (engine.config().has_encoder()) {
    throw Error({.path = engine.model().gguf().path(),
                 .what = "a model with an encoder answers one text at a time"});
  }
  state_ = std::make_unique<State>(engine, options);
}

Scheduler::~Scheduler() = default;

void Scheduler::Submit(RequestId id, Request request, std::shared_ptr<RequestListener> listener) {
  state_->Add(id, std::move(request), std::move(listener));
}

void Scheduler::Check(const Request& request) const { state_->Check(request); }
void Scheduler::Cancel(RequestId id) { state_->Cancel(id); }
void Scheduler::CancelAll() { state_->CancelAll(); }
bool Scheduler::Step() { return state_->Step(); }
bool Scheduler::idle() const { return state_->idle(); }
std::vector<SlotState> Scheduler::slots() const { return state_->SlotStates(); }
bool Scheduler::is_busy(int32_t slot) const { return state_->SlotAt(slot).busy; }
SlotFileResult Scheduler::SaveSlot(int32_t slot, const std::string& path) {
  return state_->Save(slot, path);
}
SlotFileResult Scheduler::RestoreSlot(int32_t slot, const std::string& path) {
  return state_->Restore(slot, path);
}
int64_t Scheduler::EraseSlot(int32_t slot) { return state_->Erase(slot); }
ScheduleStats Scheduler::stats() const { return state_->Stats(); }

}  // namespace thermocline
