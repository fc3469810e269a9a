"""Where replies come from.

base        what every engine can do
upstream    another server that speaks the OpenAI API
load        an engine from a model's folder
local       a model in this process: who asks, orders, stops
worker      the thread that owns the model; batch, caches, forward: its rows together; row: each of them
prompts     from what is asked to tokens; sampling, detokenizer, outlet: from logits to text; mailbox: to the reader
canary      whether the monitors are alive
"""
