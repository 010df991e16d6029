// Of the service: everything that generates text.
#include <ctime>
#include <random>

#include "tools/serve/generation_run.h"
#include "tools/serve/infill.h"
#include "tools/serve/service.h"

namespace thermocline {
namespace {

// Letters that nobody guesses, for the ids of answers.
std::string RandomId() {
  constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  constexpr size_t kLength = 24;
  std::random_device device;
  std::uniform_int_distribution<size_t> letter(0, kLetters.size() - 1);
  std::string id;
  for (size_t i = 0; i < kLength; ++i) id += kLetters[letter(device)];
  return id;
}

}  // namespace

void Service::Generate(const HttpRequest& request, const Reply& reply, GenerationSpec spec) {
  if (draining_) throw ApiError(ApiErrorKind::kUnavailable, "the server is stopping");
  ServedModel& model = served();
  if (spec.slot >= options_.schedule.n_slots) {
    const ApiJson found = spec.slot;
    FailField("id_slot", "a slot that there is", &found);
  }
  const auto shared = std::make_shared<const GenerationSpec>(std::move(spec));
  GenerationRun::Parts parts = {.spec = shared,
                                .context = {.spec = shared,
                                            .tokenizer = &model.host.tokenizer(),
                                            .model = ModelName(),
                                            .created = std::time(nullptr),
                                            .id = RandomId()},
                                .reply = reply,
                                .headers = access_.Headers(request),
                                .model = model.host.Wake(),
                                .metrics = &metrics_,
                                .context_shift = options_.context_shift};
  if (shared->stream) parts.headers.emplace_back("Cache-Control", "no-cache");
  std::make_shared<GenerationRun>(std::move(parts))->Start();
}

void Service::Native(const HttpRequest& request, const Reply& reply) {
  Generate(request, reply, served().parser.Native(ParseBody(request.body)));
}

void Service::TextCompletions(const HttpRequest& request, const Reply& reply) {
  Generate(request, reply, served().parser.TextCompletions(ParseBody(request.body)));
}

void Service::Chat(const HttpRequest& request, const Reply& reply) {
  Generate(request, reply, served().parser.Chat(ParseBody(request.body)));
}

void Service::Responses(const HttpRequest& request, const Reply& reply) {
  Generate(request, reply, served().parser.Responses(ParseBody(request.body)));
}

void Service::Messages(const HttpRequest& request, const Reply& reply) {
  Generate(request, reply, served().parser.Messages(ParseBody(request.body)));
}

void Service::Infill(const HttpRequest& request, const Reply& reply) {
  const ServedModel& model = served();
  const ApiJson body = ParseBody(request.body);
  const InfillTokens tokens = FindInfillTokens(model.host.model().gguf(), model.host.tokenizer());
  ApiJson native = body;
  native["prompt"] = InfillPrompt(Fields(body), tokens, model.host.tokenizer());
  Generate(request, reply, model.parser.Native(native));
}

}  // namespace thermocline
