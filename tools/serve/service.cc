#include "tools/serve/service.h"

#include <utility>

#include "runtime/chat/named_templates.h"
#include "runtime/core/error.h"
#include "runtime/text/jinja/model_template.h"
#include "runtime/text/token_sets.h"

namespace thermocline {
namespace {

ChatFormatOptions TemplateOf(const ServeOptions& options, const GgufReader& gguf) {
  if (options.chat_template) return *options.chat_template;
  ChatFormatOptions format;
  format.name = gguf.path();
  format.source = ReadModelTemplate(gguf).source;
  if (format.source.empty())
    format = {.source = std::string(*NamedTemplate("chatml")), .name = "chatml"};
  return format;
}

// The defaults, with what needs the vocabulary.
RequestDefaults DefaultsOf(const ServeOptions& options, const Tokenizer& tokenizer) {
  RequestDefaults defaults = options.defaults;
  defaults.sampler.dry_breakers = TokensWith(tokenizer, options.dry_breakers);
  return defaults;
}

// "/slots/3" is the endpoint "/slots/*".
std::string EndpointOf(const std::string& path) {
  constexpr std::string_view kSlots = "/slots/";
  return path.starts_with(kSlots) ? std::string(kSlots) + "*" : path;
}

}  // namespace

ServedModel::ServedModel(const ServeOptions& options)
    : host(options),
      defaults(DefaultsOf(options, host.tokenizer())),
      chat(TemplateOf(options, host.model().gguf()), host.tokenizer(), options.thinking),
      constraints(host.tokenizer()),
      parser(host.tokenizer(), chat, constraints, defaults) {}

Service::Service(const ServeOptions& options)
    : options_(options),
      access_({.api_keys = options.api_keys,
               .allowed_origins = options.allowed_origins,
               .allowed_hosts = options.allowed_hosts}) {
  AddRoutes();
  AddGenerationRoutes();
}

Service::~Service() = default;

void Service::Load() {
  model_ = std::make_unique<ServedModel>(options_);
  ready_ = true;
}

void Service::Tick() {
  if (ready_) model_->host.SleepWhereIdle();
}

void Service::AddRoutes() {
  const auto get = [this](const char* path, AtOnce endpoint) {
    routes_[path]["GET"] = {.at_once = endpoint};
  };
  const auto post = [this](const char* path, AtOnce endpoint) {
    routes_[path]["POST"] = {.at_once = endpoint};
  };
  if (options_.has_page) {
    get("/", &Service::Page);
    get("/index.html", &Service::Page);
  }
  for (const char* path : {"/health", "/v1/health"}) get(path, &Service::Health);
  for (const char* path : {"/models", "/v1/models"}) get(path, &Service::Models);
  get("/props", &Service::Props);
  get("/slots", &Service::Slots);
  get("/metrics", &Service::MetricsText);
  get("/live", &Service::Live);
  post("/slots/*", &Service::SlotAction);
  post("/tokenize", &Service::Tokenize);
  post("/detokenize", &Service::Detokenize);
  post("/apply-template", &Service::ApplyTemplate);
  for (const char* path : {"/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"}) {
    post(path, &Service::CountChatTokens);
  }
  for (const char* path : {"/responses/input_tokens", "/v1/responses/input_tokens"}) {
    post(path, &Service::CountResponsesTokens);
  }
  post("/v1/messages/count_tokens", &Service::CountMessagesTokens);
}

void Service::AddGenerationRoutes() {
  const auto post = [this](const char* path, Later endpoint) {
    routes_[path]["POST"] = {.later = endpoint};
  };
  for (const char* path : {"/completion", "/completions"}) post(path, &Service::Native);
  post("/v1/completions", &Service::TextCompletions);
  for (const char* path : {"/chat/completions", "/v1/chat/completions"}) {
    post(path, &Service::Chat);
  }
  for (const char* path : {"/responses", "/v1/responses"}) post(path, &Service::Responses);
  post("/v1/messages", &Service::Messages);
  for (const char* path : {"/embeddings", "/v1/embeddings"}) post(path, &Service::Embeddings);
  post("/infill", &Service::Infill);
}

const Service::Route* Service::FindRoute(const HttpRequest& request) const {
  const auto path = routes_.find(EndpointOf(request.path));
  if (path == routes_.end()) {
    throw ApiError(ApiErrorKind::kNotFound, "there is no endpoint " + Printable(request.path, 100));
  }
  const auto route = path->second.find(request.method == "HEAD" ? "GET" : request.method);
  if (route == path->second.end()) {
    throw ApiError(ApiErrorKind::kNotAllowed, Printable(request.path, 100) + " takes " +
                                                  path->second.begin()->first + ", found " +
                                                  Printable(request.method, 20));
  }
  return &route->second;
}

ServedModel& Service::served() const {
  if (!ready_) throw ApiError(ApiErrorKind::kUnavailable, "the model is being loaded");
  return *model_;
}

std::optional<HttpResponse> Service::Refuse(const HttpRequest& head) {
  std::optional<ApiError> error = access_.Refuse(head);
  if (!error && head.method != "OPTIONS") {
    try {
      (void)FindRoute(head);
    } catch (const ApiError& unknown) {
      error = unknown;
    }
  }
  if (!error) return std::nullopt;
  HttpResponse response = ErrorResponseOf(*error);
  response.headers = access_.Headers(head);
  return response;
}

void Service::Answer(const HttpRequest& request, const Reply& reply, HttpResponse response) const {
  for (auto& header : access_.Headers(request)) response.headers.push_back(std::move(header));
  reply->Send(std::move(response));
}

void Service::Handle(HttpRequest request, std::shared_ptr<HttpReply> reply) {
  if (request.method == "OPTIONS") return reply->Send(access_.Preflight(request));
  try {
    const Route* route = FindRoute(request);
    if (route->at_once != nullptr) {
      return Answer(request, reply, (this->*route->at_once)(request));
    }
    (this->*route->later)(request, reply);
  } catch (const std::exception& error) {
    HttpResponse response = ErrorResponseOf(error);
    metrics_.AddAnswer(response.status);
    Answer(request, reply, std::move(response));
  }
}

HttpResponse Service::ErrorResponse(int status, const std::string& message) {
  const auto kind = [status] {
    switch (status) {
      case 408:
        return ApiErrorKind::kTimeout;
      case 413:
        return ApiErrorKind::kTooLarge;
      case 503:
        return ApiErrorKind::kUnavailable;
      case 500:
        return ApiErrorKind::kServer;
      default:
        return ApiErrorKind::kInvalidRequest;
    }
  }();
  ApiJson object = ApiError(kind, message).Object();
  object["error"]["code"] = status;
  return JsonResponse(object, status);
}

}  // namespace thermocline
