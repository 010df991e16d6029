// Of the service: text, tokens and templates, without the model's weights.
#include "runtime/text/utf8.h"
#include "tools/serve/answer_parts.h"
#include "tools/serve/prompt_fields.h"
#include "tools/serve/service.h"

namespace thermocline {
namespace {

// A token's text, or its bytes where they are none by themselves.
ApiJson PieceJson(const Tokenizer& tokenizer, int32_t id) {
  const std::string bytes = tokenizer.TokenName(id);
  if (IsValidUtf8(bytes)) return bytes;
  ApiJson list = ApiJson::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

}  // namespace

HttpResponse Service::Tokenize(const HttpRequest& request) {
  ServedModel& model = served();
  (void)model.host.Wake();
  const ApiJson body = ParseBody(request.body);
  const Fields fields(body);
  const Tokenizer& tokenizer = model.host.tokenizer();
  const std::string content = fields.RequiredText("content");
  const bool parse_special = fields.Bool("parse_special").value_or(true);
  const bool add_special = fields.Bool("add_special").value_or(false);
  const std::vector<int32_t> ids = add_special ? tokenizer.EncodePrompt(content, parse_special)
                                               : tokenizer.Encode(content, parse_special);
  if (!fields.Bool("with_pieces").value_or(false)) return JsonResponse({{"tokens", ids}});
  ApiJson tokens = ApiJson::array();
  for (const int32_t id : ids) {
    tokens.push_back({{"id", id}, {"piece", PieceJson(tokenizer, id)}});
  }
  return JsonResponse({{"tokens", tokens}});
}

HttpResponse Service::Detokenize(const HttpRequest& request) {
  const ServedModel& model = served();
  const ApiJson body = ParseBody(request.body);
  const Fields fields(body);
  const Tokenizer& tokenizer = model.host.tokenizer();
  const std::vector<int32_t> ids = ReadIds(fields.RequiredArray("tokens"), "tokens", tokenizer);
  return JsonResponse({{"content", TextWithNames(tokenizer, ids)}});
}

HttpResponse Service::ApplyTemplate(const HttpRequest& request) {
  const ApiJson body = ParseBody(request.body);
  return JsonResponse({{"prompt", served().parser.PromptOf(body).text}});
}

HttpResponse Service::CountChatTokens(const HttpRequest& request) {
  const ApiJson body = ParseBody(request.body);
  return JsonResponse({{"object", "response.input_tokens"},
                       {"input_tokens", served().parser.PromptOf(body).ids.size()}});
}

HttpResponse Service::CountResponsesTokens(const HttpRequest& request) {
  const ApiJson body = FromResponsesApi(ParseBody(request.body));
  return JsonResponse({{"object", "response.input_tokens"},
                       {"input_tokens", served().parser.PromptOf(body).ids.size()}});
}

HttpResponse Service::CountMessagesTokens(const HttpRequest& request) {
  const ApiJson body = FromMessagesApi(ParseBody(request.body));
  return JsonResponse({{"input_tokens", served().parser.PromptOf(body).ids.size()}});
}

}  // namespace thermocline
