namespace Backend.Toolkit.Pagination;

/// <summary>Why a cursor was refused.</summary>
public enum InvalidCursorReason
{
    /// <summary>It is not base64url of a cursor.</summary>
    Malformed,

    /// <summary>It is longer than <see cref="CursorPaginatorOptions.MaxCursorLength"/>.</summary>
    TooLong,

    /// <summary>It was sealed under a key that is not among <see cref="CursorPaginatorOptions.Keys"/>, or by another version.</summary>
    UnknownKey,

    /// <summary>Its seal does not match: it was altered, or made by somebody else.</summary>
    Altered,

    /// <summary>It belongs to another keyset or scope: another query, sort, filter or tenant.</summary>
    Foreign,

    /// <summary>It is older than <see cref="CursorPaginatorOptions.Expiry"/> allows.</summary>
    Expired,
}
