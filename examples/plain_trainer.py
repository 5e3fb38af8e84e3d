"""Train on a tokensieve export with the plain Hugging Face Trainer: nothing of tokensieve is needed from here on.

tokensieve score task:pocket_python_foreign/train --out scored
tokensieve select scored --policy stm:2.5 --out chosen
tokensieve export chosen --out training-set
python examples/plain_trainer.py MODEL_FOLDER training-set tuned
"""

import argparse
from pathlib import Path

from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)


def main(model_name: str, training_set: str, out: str) -> None:
    """Train all weights for one pass and save the model."""
    model = AutoModelForCausalLM.from_pretrained(model_name)
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    rows = Dataset.from_parquet([str(path) for path in sorted(Path(training_set).rglob("*.parquet"))])
    arguments = TrainingArguments(out, num_train_epochs=1, learning_rate=1e-4, report_to=[], save_strategy="no")
    collator = DataCollatorForSeq2Seq(tokenizer)  # pads ids with the pad token and labels with -100
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator)
    trainer.train()
    trainer.save_model(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a Hub name or a folder")
    parser.add_argument("training_set", help="folder of `tokensieve export`, Parquet files of input_ids and labels")
    parser.add_argument("out", help="folder of the model")
    given = parser.parse_args()
    main(given.model, given.training_set, given.out)
