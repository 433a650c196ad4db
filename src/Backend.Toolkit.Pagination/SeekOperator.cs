namespace Backend.Toolkit.Pagination;

/// <summary>What a <see cref="SeekTerm"/> asks of a column.</summary>
public enum SeekOperator
{
    /// <summary>Equal to the key of the position.</summary>
    Equal,

    /// <summary>Less than the key of the position.</summary>
    Less,

    /// <summary>Less than the key of the position, or equal to it.</summary>
    LessOrEqual,

    /// <summary>Greater than the key of the position.</summary>
    Greater,

    /// <summary>Greater than the key of the position, or equal to it.</summary>
    GreaterOrEqual,

    /// <summary>Null.</summary>
    IsNull,

    /// <summary>Not null.</summary>
    IsNotNull,
}
