// The server without HTTP: every endpoint is a function of a request. It exists from the start, and
// answers that it is not ready until the model is loaded.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "tools/http/http_server.h"
#include "tools/serve/access.h"
#include "tools/serve/metrics.h"
#include "tools/serve/model_host.h"
#include "tools/serve/request_parser.h"

namespace thermocline {

// What needs the model.
struct ServedModel {
  explicit ServedModel(const ServeOptions& options);

  ModelHost host;
  RequestDefaults defaults;
  ChatPrompts chat;
  Constraints constraints;
  RequestParser parser;
};

class Service : public HttpHandler {
 public:
  explicit Service(const ServeOptions& options);
  ~Service() override;

  // Loads the model; from then on requests are served. Throws Error.
  void Load();
  // Called now and then.
  void Tick();
  // Takes no more generation; what runs goes on.
  void Close() { draining_ = true; }

  std::optional<HttpResponse> Refuse(const HttpRequest& head) override;
  void Handle(HttpRequest request, std::shared_ptr<HttpReply> reply) override;
  HttpResponse ErrorResponse(int status, const std::string& message) override;

 private:
  using Reply = std::shared_ptr<HttpReply>;
  // An endpoint that answers at once, and one that does so later.
  using AtOnce = HttpResponse (Service::*)(const HttpRequest&);
  using Later = void (Service::*)(const HttpRequest&, const Reply&);
  struct Route {
    AtOnce at_once = nullptr;
    Later later = nullptr;
  };
  void AddRoutes();
  void AddGenerationRoutes();
  const Route* FindRoute(const HttpRequest& request) const;
  void Answer(const HttpRequest& request, const Reply& reply, HttpResponse response) const;
  ServedModel& served() const;  // throws ApiError while it is not there

  // ---- service_info.cc ----
  HttpResponse Page(const HttpRequest& request);
  HttpResponse Health(const HttpRequest& request);
  HttpResponse Models(const HttpRequest& request);
  HttpResponse Props(const HttpRequest& request);
  HttpResponse Slots(const HttpRequest& request);
  HttpResponse MetricsText(const HttpRequest& request);
  HttpResponse Live(const HttpRequest& request);
  std::string ModelName() const;

  // ---- service_text.cc ----
  HttpResponse Tokenize(const HttpRequest& request);
  HttpResponse Detokenize(const HttpRequest& request);
  HttpResponse ApplyTemplate(const HttpRequest& request);
  HttpResponse CountChatTokens(const HttpRequest& request);
  HttpResponse CountResponsesTokens(const HttpRequest& request);
  HttpResponse CountMessagesTokens(const HttpRequest& request);

  // ---- service_slots.cc ----
  HttpResponse SlotAction(const HttpRequest& request);

  // ---- service_generate.cc ----
  void Native(const HttpRequest& request, const Reply& reply);
  void TextCompletions(const HttpRequest& request, const Reply& reply);
  void Chat(const HttpRequest& request, const Reply& reply);
  void Responses(const HttpRequest& request, const Reply& reply);
  void Messages(const HttpRequest& request, const Reply& reply);
  void Infill(const HttpRequest& request, const Reply& reply);
  void Generate(const HttpRequest& request, const Reply& reply, GenerationSpec spec);

  // ---- service_embeddings.cc ----
  void Embeddings(const HttpRequest& request, const Reply& reply);

  const ServeOptions& options_;
  Access access_;
  Metrics metrics_;
  std::map<std::string, std::map<std::string, Route>> routes_;  // by path, then method
  std::unique_ptr<ServedModel> model_;
  std::atomic<bool> ready_ = false;
  std::atomic<bool> draining_ = false;
  std::atomic<int> n_slot_actions_ = 0;
  const int64_t started_ = std::chrono::duration_cast<std::chrono::seconds>(
                               std::chrono::system_clock::now().time_since_epoch())
                               .count();
};

}  // namespace thermocline
