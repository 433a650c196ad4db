using System.Data;
using System.Data.Common;
using System.Globalization;

namespace Backend.Toolkit.Pagination;

/// <summary>One page as SQL: the text, its parameters, and what makes a <see cref="Page{T}"/> of the rows. The text is the same string for each page of the same shape, so a prepared command stays prepared.</summary>
/// <typeparam name="T">A row.</typeparam>
public readonly struct KeysetQuery<T>
{
    private readonly KeysetRequest<T> _request;
    private readonly SqlDialect _dialect;
    private readonly string _source;

    internal KeysetQuery(SqlDialect dialect, string source, in KeysetRequest<T> request)
    {
        _dialect = dialect;
        _source = source;
        _request = request;
        Sql = request.Keyset.Texts.Find(request.Keyset, request.Plan(dialect), dialect, request.Size, source);
    }

    /// <summary>
    /// The statement. Its rows are those of the page in the order of reading, one more when there is more, and besides, anywhere, rows that lie behind the position: those have 1 in the last column,
    /// <c>keyset_behind</c>, which is added to the columns of the SELECT.
    /// </summary>
    public string Sql { get; }

    /// <summary>The statement that counts the rows of all pages; null: no total is wanted.</summary>
    public string? TotalSql => _request.TotalLimit switch
    {
        null => null,
        long.MaxValue => $"SELECT COUNT(*) FROM (\n{_source}\n) AS k",
        long limit => string.Create(CultureInfo.InvariantCulture, $"SELECT COUNT(*) FROM (SELECT 1 FROM (\n{_source}\n) AS k LIMIT {limit + 1}) AS k"),
    };

    /// <summary>The parameters that the statement has beside those of the SELECT.</summary>
    public IReadOnlyList<KeysetParameter> Parameters
    {
        get
        {
            var parameters = new List<KeysetParameter>();
            for (int i = 0; _request.HasPosition && i < _request.Keyset.Columns.Count; i++)
            {
                if (_request.PositionParameter(i, _dialect) is object value)
                {
                    parameters.Add(new KeysetParameter(KeysetText<T>.Parameter(i), value, _request.Keyset.Columns[i].Access.ParameterType));
                }
            }

            return parameters;
        }
    }

    /// <summary>Gives the text and the parameters to a command, which may be the one of the page before: what has not changed stays.</summary>
    /// <param name="command">The command; the parameters of the SELECT are the caller's.</param>
    public void Bind(DbCommand command)
    {
        ArgumentNullException.ThrowIfNull(command);
        if (!string.Equals(command.CommandText, Sql, StringComparison.Ordinal))
        {
            command.CommandText = Sql;
        }

        if (!_request.HasPosition)
        {
            return;
        }

        DbParameterCollection parameters = command.Parameters;
        for (int i = 0; i < _request.Keyset.Columns.Count; i++)
        {
            if (_request.PositionParameter(i, _dialect) is not object value)
            {
                continue;
            }

            KeysetColumn<T> column = _request.Keyset.Span[i];
            int at = parameters.IndexOf(column.ParameterName);
            if (at >= 0)
            {
                parameters[at].Value = value;
                continue;
            }

            DbParameter parameter = command.CreateParameter();
            parameter.ParameterName = column.ParameterName;
            if (column.Access.ParameterType is DbType type)
            {
                parameter.DbType = type;
            }

            parameter.Value = value;
            parameters.Add(parameter);
        }
    }

    /// <summary>Runs the statement, and the one that counts where a total is wanted.</summary>
    /// <param name="command">A command of an open connection, with the parameters of the SELECT; <see cref="Bind"/> gives it the rest. Kept for the next page it may stay prepared.</param>
    /// <param name="map">Makes a row of the reader's current record.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The page.</returns>
    public async ValueTask<Page<T>> ToPageAsync(DbCommand command, Func<DbDataReader, T> map, CancellationToken cancellationToken = default)
    {
        Bind(command);
        Page<T> page;
        await using (DbDataReader reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false))
        {
            page = await ToPageAsync(reader, map, cancellationToken).ConfigureAwait(false);
        }

        if (TotalSql is not string totalSql)
        {
            return page;
        }

        command.CommandText = totalSql;
        object? counted = await command.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false);
        return page.WithTotal(ToTotal(Convert.ToInt64(counted, CultureInfo.InvariantCulture)));
    }

    /// <summary>Makes the page of the statement's rows.</summary>
    /// <param name="reader">A reader of <see cref="Sql"/>, before its first row.</param>
    /// <param name="map">Makes a row of the reader's current record.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The page.</returns>
    public async ValueTask<Page<T>> ToPageAsync(DbDataReader reader, Func<DbDataReader, T> map, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(reader);
        ArgumentNullException.ThrowIfNull(map);
        int size = _request.Size;
        var items = new T[Math.Min(size, 128)];
        int count = 0;
        bool more = false;
        bool behind = false;
        int mark = reader.FieldCount - 1;
        while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
        {
            if (reader.GetInt32(mark) != 0)
            {
                behind = true;
            }
            else if (count == size)
            {
                more = true;
            }
            else
            {
                if (count == items.Length)
                {
                    Array.Resize(ref items, Math.Min(2 * count, size));
                }

                items[count++] = map(reader);
            }
        }

        if (count < items.Length)
        {
            Array.Resize(ref items, count);
        }

        if (_request.Direction == PageDirection.Backward)
        {
            Array.Reverse(items);
        }

        return _request.Complete(items, more, behind);
    }

    /// <summary>What <see cref="TotalSql"/> counted, as a total.</summary>
    /// <param name="counted">The number that the statement gave.</param>
    /// <returns>The total.</returns>
    public PageTotal ToTotal(long counted) => _request.TotalLimit is long limit && counted > limit ? new PageTotal(limit, IsCapped: true) : new PageTotal(counted, IsCapped: false);
}
