"""Fine-tune a language model without making it forget: score, select, train, measure."""
