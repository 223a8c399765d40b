"""What each ingredient of the default model is worth: variants trained one by one and scored on a validation part."""
