using System.Transactions;
using Npgsql;

namespace Backend.Toolkit.Idempotency.PostgreSql;

internal static class OwnConnection
{
    /// <summary>A connection that takes no part in a <see cref="TransactionScope"/> around the caller, which would roll the store's own writes back, and hide them from other nodes till then.</summary>
    public static ValueTask<NpgsqlConnection> OpenOwnAsync(this NpgsqlDataSource source, CancellationToken cancellationToken)
    {
        if (Transaction.Current is null)
        {
            return source.OpenConnectionAsync(cancellationToken);
        }

        // The driver asks for the ambient transaction before its first await.
        using var outside = new TransactionScope(TransactionScopeOption.Suppress, TransactionScopeAsyncFlowOption.Enabled);
        return source.OpenConnectionAsync(cancellationToken);
    }
}
