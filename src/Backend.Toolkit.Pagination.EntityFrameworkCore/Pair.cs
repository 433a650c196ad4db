namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>The keys of a row, typed: (a, (b, c)). Entity Framework sees through it as through an anonymous type, so that key rows can be ordered after a union.</summary>
internal sealed class Pair<THead, TTail>(THead head, TTail tail) : IPair
{
    public THead Head { get; } = head;

    public TTail Tail { get; } = tail;

    object? IPair.Head => Head;

    object? IPair.Tail => Tail;
}

internal interface IPair
{
    public object? Head { get; }

    public object? Tail { get; }
}
