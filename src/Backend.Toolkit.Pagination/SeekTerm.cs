namespace Backend.Toolkit.Pagination;

/// <summary>One condition of a <see cref="SeekBranch"/>.</summary>
/// <param name="Column">The ordinal of the column, or of the first one of a row value.</param>
/// <param name="Count">How many columns are compared as one row value; 1 otherwise.</param>
/// <param name="Operator">The comparison with the position's keys of those columns.</param>
public readonly record struct SeekTerm(int Column, int Count, SeekOperator Operator);
