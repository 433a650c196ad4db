using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;
using Npgsql;

namespace Backend.Toolkit.Webhooks.Delivery.PostgreSql;

/// <summary>Registers the store in PostgreSQL as the <see cref="IWebhookDeliveryStore"/>. Its options are validated at start-up; the <see cref="NpgsqlDataSource"/> is taken from the container unless the options name one.</summary>
public static class PostgreSqlWebhookDeliveryServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="PostgreSqlWebhookDeliveryStore"/>, unless there is a store.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddPostgreSqlWebhookDeliveryStore(this IServiceCollection services, Action<PostgreSqlWebhookDeliveryStoreOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<PostgreSqlWebhookDeliveryStoreOptions>, ProblemsValidation>());
        services.AddOptions<PostgreSqlWebhookDeliveryStoreOptions>()
            .Configure(configure ?? (static _ => { }))
            .PostConfigure<IServiceProvider>(static (options, provider) =>
            {
                options.Name = "default";
                options.DataSource ??= provider.GetService<NpgsqlDataSource>();
            })
            .ValidateOnStart();
        services.TryAddSingleton<IWebhookDeliveryStore>(static provider =>
            new PostgreSqlWebhookDeliveryStore(provider.GetRequiredService<IOptions<PostgreSqlWebhookDeliveryStoreOptions>>().Value));
        return services;
    }

    /// <summary>Adds a <see cref="PostgreSqlWebhookDeliveryStore"/>, unless there is a store.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddPostgreSqlWebhookDeliveryStore(this IServiceCollection services, Action<PostgreSqlWebhookDeliveryStoreOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<PostgreSqlWebhookDeliveryStoreOptions>().Configure(configure);
        return services.AddPostgreSqlWebhookDeliveryStore();
    }

    private sealed class ProblemsValidation : IValidateOptions<PostgreSqlWebhookDeliveryStoreOptions>
    {
        public ValidateOptionsResult Validate(string? name, PostgreSqlWebhookDeliveryStoreOptions options)
        {
            List<string> problems = [.. options.Problems()];
            return problems.Count > 0 ? ValidateOptionsResult.Fail(problems) : ValidateOptionsResult.Success;
        }
    }
}
