"""Diagnosis of a teacher and a student: where they part, what each costs and knows, and what to do about it."""
