// What a server is to be.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/drafts/drafting.h"
#include "runtime/engine/engine_options.h"
#include "runtime/schedule/scheduler.h"
#include "tools/http/http_server.h"
#include "tools/serve/chat_prompt.h"
#include "tools/serve/sampling_fields.h"

namespace thermocline {

struct ServeOptions {
  EngineOptions engine;
  ScheduleOptions schedule;
  DraftOptions draft;           // schedule.speculator is made of it
  bool shares_context = false;  // all slots share one context's room, each may have all of it
  RequestDefaults defaults;
  std::vector<std::string> dry_breakers;  // texts that no repetition goes across
  bool context_shift = false;
  bool warms_up = true;  // before the first request is taken

  std::string host = "127.0.0.1";
  uint16_t port = 8080;
  HttpLimits http;
  std::vector<std::string> api_keys;         // none: nobody is asked for one
  std::vector<std::string> allowed_origins;  // pages of other sites that may call, "*": any
  std::vector<std::string> allowed_hosts;    // further names of this machine

  std::optional<ChatFormatOptions> chat_template;  // nullopt: the model's, else ChatML
  Thinking thinking = Thinking::kAuto;
  std::vector<std::string> aliases;
  std::vector<std::string> tags;
  std::string slot_save_path;  // empty: slots are not saved
  bool tells_slots = true;
  bool tells_metrics = false;
  bool has_page = true;
  int64_t sleep_idle_seconds =
      -1;  // after how long without a request the model is unloaded; -1: never
};

}  // namespace thermocline
