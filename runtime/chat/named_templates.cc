#include "runtime/chat/named_templates.h"

#include <algorithm>
#include <iterator>

namespace thermocline {
namespace {

struct NamedRow {
  std::string_view name;
  std::string_view source;
};

// They differ in what stands around a message. Formats without a place for the system's words have
// them in front of the user's first ones, so that what was said before never changes from turn to
// turn and the KV cache of it is kept.
constexpr NamedRow kNamedTemplates[] = {
    {"chatml", R"({% for m in messages %}
{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})"},
    {"command-r", R"({{ bos_token }}
{%- for m in messages %}
{{- '<|START_OF_TURN_TOKEN|>' }}
{%- if m.role == 'system' %}{{ '<|SYSTEM_TOKEN|>' }}
{%- elif m.role == 'user' %}{{ '<|USER_TOKEN|>' }}
{%- else %}{{ '<|CHATBOT_TOKEN|>' }}
{%- endif %}
{{- m.content | trim + '<|END_OF_TURN_TOKEN|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %})"},
    {"deepseek", R"({{ bos_token }}
{%- for m in messages %}
{%- if m.role == 'system' %}{{ m.content }}
{%- elif m.role == 'user' %}{{ '<｜User｜>' + m.content }}
{%- else %}{{ '<｜Assistant｜>' + m.content + '<｜end▁of▁sentence｜>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %})"},
    {"gemma", R"({{ bos_token }}
{%- set ns = namespace(system='') %}
{%- for m in messages %}
{%- if m.role == 'system' %}{% set ns.system = m.content | trim + '\n\n' %}
{%- else %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}
{{- ns.system + m.content | trim + '<end_of_turn>\n' }}
{%- set ns.system = '' %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %})"},
    {"llama2", R"({% set ns = namespace(system='') %}
{%- for m in messages %}
{%- if m.role == 'system' %}{% set ns.system = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}
{%- elif m.role == 'user' %}
{{- bos_token + '[INST] ' + (ns.system + m.content) | trim + ' [/INST]' }}
{%- set ns.system = '' %}
{%- else %}{{ ' ' + m.content | trim + ' ' + eos_token }}
{%- endif %}
{%- endfor %})"},
    {"llama3", R"({{ bos_token }}
{%- for m in messages %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %})"},
    {"mistral", R"({{ bos_token }}
{%- set ns = namespace(system='') %}
{%- for m in messages %}
{%- if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}
{%- elif m.role == 'user' %}{{ '[INST] ' + ns.system + m.content + ' [/INST]' }}
{%- set ns.system = '' %}
{%- else %}{{ ' ' + m.content | trim + eos_token }}
{%- endif %}
{%- endfor %})"},
    {"phi3", R"({% for m in messages %}
{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %})"},
    {"vicuna", R"({% for m in messages %}
{%- if m.role == 'system' %}{{ m.content + '\n\n' }}
{%- elif m.role == 'user' %}{{ 'USER: ' + m.content + '\n' }}
{%- else %}{{ 'ASSISTANT: ' + m.content | trim + eos_token + '\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %})"},
    {"zephyr", R"({% for m in messages %}
{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %})"},
};

}  // namespace

std::optional<std::string_view> NamedTemplate(std::string_view name) {
  const auto* row = std::find_if(std::begin(kNamedTemplates), std::end(kNamedTemplates),
                                 [&](const NamedRow& each) { return each.name == name; });
  return row == std::end(kNamedTemplates) ? std::nullopt : std::optional(row->source);
}

std::string NamedTemplateList() {
  std::string list;
  for (const NamedRow& row : kNamedTemplates) {
    if (!list.empty()) list += ", ";
    list += row.name;
  }
  return list;
}

}  // namespace thermocline
