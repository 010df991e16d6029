// Of the service: slots saved to files, and read from them.
#include <fmt/format.h>

#include <charconv>
#include <filesystem>

#include "runtime/core/error.h"
#include "tools/serve/service.h"

namespace thermocline {
namespace {

constexpr int kMaxSlotActions = 2;  // at a time: each waits until its slot is idle
constexpr size_t kMaxNameBytes = 200;

// Counts what is under way.
class Counted {
 public:
  explicit Counted(std::atomic<int>& count) : count_(count) {
    if (++count_ <= kMaxSlotActions) return;
    --count_;
    throw ApiError(ApiErrorKind::kTooMany, "slots are being saved or restored already");
  }
  ~Counted() { --count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::atomic<int>& count_;
};

int32_t SlotOf(const std::string& path, int32_t n_slots) {
  const std::string text = path.substr(std::string_view("/slots/").size());
  int32_t slot = -1;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, slot);
  if (parsed.ec == std::errc() && parsed.ptr == end && slot >= 0 && slot < n_slots) return slot;
  throw ApiError(ApiErrorKind::kInvalidRequest,
                 fmt::format("the slot: expected a number from 0 to {}, found '{}'", n_slots - 1,
                             Printable(text, 40)));
}

// A name within the folder: no way out of it, and no hidden file.
std::string FileName(const Fields& fields) {
  std::string name = fields.RequiredText("filename");
  bool plain = !name.empty() && name.size() <= kMaxNameBytes && name.front() != '.';
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    plain = plain && byte > 0x20 && byte != 0x7F && c != '/' && c != '\\' && c != ':';
  }
  if (plain) return name;
  FailField("filename",
            fmt::format("a name of at most {} bytes that begins with no dot, without slashes, "
                        "colons and spaces",
                        kMaxNameBytes),
            fields.Find("filename"));
}

}  // namespace

HttpResponse Service::SlotAction(const HttpRequest& request) {
  const int32_t slot = SlotOf(request.path, options_.schedule.n_slots);
  const std::string action(request.Query("action"));
  const ApiJson body = request.body.empty() ? ApiJson::object() : ParseBody(request.body);
  const Fields fields(body);
  const Counted counted(n_slot_actions_);
  if (action == "erase") {
    const auto model = served().host.Wake();
    return JsonResponse({{"id_slot", slot}, {"n_erased", model->scheduler.EraseSlot(slot)}});
  }
  if (action != "save" && action != "restore") {
    throw ApiError(ApiErrorKind::kInvalidRequest,
                   fmt::format("'action': expected save, restore or erase, found '{}'",
                               Printable(action, 40)));
  }
  if (options_.slot_save_path.empty()) {
    throw ApiError(ApiErrorKind::kNotSupported, "this server does not save slots");
  }
  const std::string name = FileName(fields);
  const std::string path = (std::filesystem::path(options_.slot_save_path) / name).string();
  const auto model = served().host.Wake();
  const bool save = action == "save";
  SlotFileResult result;
  try {
    result =
        save ? model->scheduler.SaveSlot(slot, path) : model->scheduler.RestoreSlot(slot, path);
  } catch (const Error& error) {
    // Where the folder lies is nothing that clients need to know.
    ErrorInfo info = error.info();
    info.path = name;
    throw ApiError(ApiErrorKind::kInvalidRequest, Error(info).what());
  }
  return JsonResponse({{"id_slot", slot},
                       {"filename", name},
                       {save ? "n_saved" : "n_restored", result.n_tokens},
                       {save ? "n_written" : "n_read", result.n_bytes},
                       {"timings", {{save ? "save_ms" : "restore_ms", result.ms}}}});
}

}  // namespace thermocline
